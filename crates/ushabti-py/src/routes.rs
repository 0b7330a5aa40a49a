//! The compiled route table, from the plain data of `ushabti.routing`.

use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use ushabti_core::admission::DEFAULT_LANE;
use ushabti_core::routes::{Found, ParamValue, Params, Part, Policy, RouteSpec, RouteTable as CoreTable, pattern_text};

use crate::exceptions::ConfigError;

/// The routes of one application, compiled.
///
/// Takes `(number, methods or None, parts, policy or None)` for each route; the parts are those of `ushabti.patterns`, the policy is
/// that of `ushabti.routes`. `lanes` are the names of the server's lanes; those of the routes are not looked at without. Raises
/// `ConfigError` for a pattern that cannot be compiled, and for a lane that there is not.
#[pyclass(frozen, module = "ushabti._core")]
pub struct RouteTable {
    table: Arc<CoreTable>,
    /// The parameters' names; the index is the core's.
    names: Vec<Py<PyString>>,
}

type Route = (u32, Option<Vec<String>>, Vec<Vec<String>>, Option<RoutePolicy>);

/// What the core reads of `ushabti.routes.Policy`.
#[derive(FromPyObject)]
struct RoutePolicy {
    max_body: Option<u64>,
    access_log: bool,
    is_websocket: bool,
    lane: String,
    deadline: Option<f64>,
    concurrency: Option<usize>,
    queue: Option<usize>,
}

impl RoutePolicy {
    fn into_policy(self, lanes: Option<&[String]>, methods: Option<&[String]>, parts: &[Part]) -> PyResult<Policy> {
        let lane = match lanes {
            None => DEFAULT_LANE,
            Some(lanes) => lanes.iter().position(|name| *name == self.lane).ok_or_else(|| {
                let methods = if self.is_websocket { "websocket".to_owned() } else { spelt_out(methods) };
                let (pattern, lane, known) = (pattern_text(parts), &self.lane, lanes.join(", "));
                ConfigError::new_err(format!(
                    "route {methods} {pattern}: there is no lane {lane:?}: the server has {known}; \
                     make it with lanes={{{lane:?}: 4}}, or --lanes {lane}=4"
                ))
            })?,
        };
        let deadline = self.deadline.map(Duration::try_from_secs_f64).transpose();
        Ok(Policy {
            body_bytes_max: self.max_body,
            access_log: self.access_log,
            websocket: self.is_websocket,
            lane,
            deadline: deadline.map_err(|problem| ConfigError::new_err(problem.to_string()))?,
            concurrency: self.concurrency,
            queue: self.queue,
        })
    }
}

/// Methods as `ushabti routes` shows them.
fn spelt_out(methods: Option<&[String]>) -> String {
    methods.map_or_else(|| "any".to_owned(), |methods| methods.join(" "))
}

impl RouteTable {
    pub(crate) fn table(&self) -> Arc<CoreTable> {
        Arc::clone(&self.table)
    }

    /// The parameters of a path as keyword arguments.
    pub(crate) fn parameters<'py>(&self, py: Python<'py>, params: &Params) -> PyResult<Bound<'py, PyDict>> {
        let parameters = PyDict::new(py);
        for (index, value) in params {
            let name = self.names[usize::from(*index)].bind(py);
            match value {
                ParamValue::Text(text) => parameters.set_item(name, text)?,
                ParamValue::Int(number) => parameters.set_item(name, number)?,
                ParamValue::Float(number) => parameters.set_item(name, number)?,
                ParamValue::Uuid(number) => {
                    let options = PyDict::new(py);
                    options.set_item("int", number)?;
                    parameters.set_item(name, py.import("uuid")?.getattr("UUID")?.call((), Some(&options))?)?;
                }
            }
        }
        Ok(parameters)
    }
}

#[pymethods]
impl RouteTable {
    #[new]
    #[pyo3(signature = (routes, lanes=None))]
    #[expect(clippy::needless_pass_by_value, reason = "the signature is given")]
    fn new(py: Python<'_>, routes: Vec<Route>, lanes: Option<Vec<String>>) -> PyResult<Self> {
        let specs = routes
            .into_iter()
            .map(|(id, methods, parts, policy)| {
                let parts = parts.iter().map(|texts| Part::from_texts(texts)).collect::<Result<Vec<_>, _>>();
                let parts = parts.map_err(|problem| ConfigError::new_err(problem.to_string()))?;
                let policy = match policy {
                    Some(policy) => policy.into_policy(lanes.as_deref(), methods.as_deref(), &parts)?,
                    None => Policy { access_log: true, ..Policy::default() },
                };
                Ok(RouteSpec { id, methods, parts, policy })
            })
            .collect::<PyResult<Vec<_>>>()?;
        let table = CoreTable::build(specs).map_err(|problem| ConfigError::new_err(problem.to_string()))?;
        let names = table.param_names().iter().map(|name| PyString::intern(py, name).unbind()).collect();
        Ok(Self { table: Arc::new(table), names })
    }

    /// Finds the route of a request, as the IO thread does: `("route", number, parameters)`,
    /// `("method not allowed", allow)`, `("options", allow)`, `("not found",)` or `("bad path", reason)`.
    fn find<'py>(&self, py: Python<'py>, method: &str, path: &str) -> PyResult<Bound<'py, PyTuple>> {
        match self.table.find(method, path) {
            Found::Route { id, params } => ("route", id, self.parameters(py, &params)?).into_pyobject(py),
            Found::MethodNotAllowed { allow } => ("method not allowed", allow).into_pyobject(py),
            Found::Options { allow } => ("options", allow).into_pyobject(py),
            Found::NotFound => ("not found",).into_pyobject(py),
            Found::BadPath(reason) => ("bad path", reason).into_pyobject(py),
        }
    }
}
