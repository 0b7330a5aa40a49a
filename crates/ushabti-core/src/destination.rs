//! Where a request goes, as far as its head tells: what is alike for all versions of HTTP.

use ushabti_proto::http1::head::RequestHead;
use ushabti_proto::uri::TargetForm;

use crate::reply::Refusal;
use crate::routes::{Found, Params};
use crate::server::Shared;
use crate::websocket;

/// A route, and what holds for its request.
pub(crate) struct Destination {
    pub(crate) route: u32,
    pub(crate) params: Params,
    /// The methods of the path, for a custom 405 handler.
    pub(crate) allow: Option<Box<str>>,
    /// The largest body, in bytes.
    pub(crate) body_bytes_max: u64,
    /// Whether its answer makes a line in the access log.
    pub(crate) logged: bool,
}

impl Shared {
    /// Finds out where a request goes. IO thread.
    ///
    /// # Errors
    ///
    /// [`Refusal`]: the answer of a request that goes nowhere.
    pub(crate) fn destination(&self, head: &RequestHead) -> Result<Destination, Refusal> {
        let routing = &self.routing;
        if head.form() == TargetForm::Authority {
            return Err(Refusal::of(501, "this server is no proxy"));
        }
        let (route, params, allow) = match routing.table.find(head.method(), head.path()) {
            Found::Route { id, params } => (id, params, None),
            Found::NotFound => match routing.not_found {
                Some(id) => (id, Params::default(), None),
                None => return Err(Refusal::of(404, "")),
            },
            Found::MethodNotAllowed { allow } => match routing.method_not_allowed {
                Some(id) => (id, Params::default(), Some(allow.into_boxed_str())),
                None => return Err(Refusal::allowing(405, allow)),
            },
            Found::Options { allow } => return Err(Refusal::allowing(204, allow)),
            Found::BadPath(detail) => return Err(Refusal::of(400, detail)),
        };
        let policy = routing.policy(route);
        if policy.is_some_and(|policy| policy.websocket) {
            websocket::check(head, &self.config.websocket)?;
        }
        Ok(Destination {
            route,
            params,
            allow,
            body_bytes_max: policy.and_then(|policy| policy.body_bytes_max).unwrap_or(self.config.body_bytes_max),
            logged: policy.is_none_or(|policy| policy.access_log),
        })
    }
}
