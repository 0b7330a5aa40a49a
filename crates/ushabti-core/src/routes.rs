//! The compiled route table: which route a request belongs to, known before Python is.
//!
//! Built once from the router's plain data when the server starts, then only read. The IO thread asks it for every
//! request; it never waits, takes no lock and, where the route has no parameters, allocates nothing.
//!
//! # Which paths a pattern matches
//!
//! The raw path is split at each `/` after the leading one and every segment is percent-decoded by itself, so `%2F` stays
//! inside its segment and `/` is the single empty segment. A trailing slash is one more, empty, segment: `/a` and `/a/`
//! are different paths.
//!
//! * `Literal`: this text. `Any` (`*`) and `Affix` (`pre*`, `*suf`, `pre*suf`): zero or more characters in place of the
//!   star. `Contains` (`*mid*`): the text anywhere in the segment.
//! * `Param`: one or more characters between its prefix and suffix, of the form that its [`ParamKind`] names.
//! * `Rest` (`**`, `{x:path}`): one or more segments, which may be empty: `/files/**` matches `/files/` and not `/files`.
//!   Where the split is ambiguous, each `Rest` takes as few segments as it can, the leftmost first.
//!
//! # Which of several routes wins
//!
//! The most specific one **that has the method**, so that `GET /users/me` and `POST /users/{id}` live side by side.
//! `HEAD` is also had by whatever has `GET`. Patterns are compared part by part from the left, the first difference
//! decides: literal, then typed parameter, then plain parameter, then `Affix` and `Contains`, then `Any`, then `Rest`.
//! Among parameters and among affixes more fixed text wins, then the narrower type (regular expression, UUID, integer,
//! float, slug). A pattern that goes on where the other ends wins; what is then still equal goes by registration.
//!
//! # What a search costs
//!
//! The patterns form a tree, one edge for each distinct part. A search visits each node at most once, with all the
//! positions of the path at which the node can be reached, instead of once for each way to get there: hostile paths with
//! thousands of segments against patterns with many `**` cost at most nodes times segments.

mod part;
mod segment;
mod tree;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

pub use part::{ParamKind, Part, PartError, pattern_text};
pub use segment::ParamValue;

use segment::{SegmentTest, SplitPath};
use tree::{Methods, Tree, Wanted};

/// One route as the router hands it over.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteSpec {
    /// The number of the route: `0..n`, each once, so that it may index an array on the other side.
    pub id: u32,
    /// The methods it answers, as case-sensitive tokens (RFC 9110 section 9.1). `None`: every method.
    pub methods: Option<Vec<String>>,
    /// The pattern, one part for each segment (or, for `Rest`, run of segments).
    pub parts: Vec<Part>,
    /// What the IO thread must know before the handler is.
    pub policy: Policy,
}

/// What the IO thread must know of a route before any handler runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The longest body that is accepted, in bytes. `None`: the server's own limit.
    pub body_bytes_max: Option<u64>,
    /// Whether requests of this route get a line in the access log.
    pub access_log: bool,
    /// Whether it is a WebSocket: requests that do not ask for one, or wrongly, are refused by the IO thread.
    pub websocket: bool,
    /// The number of the lane whose workers run it.
    pub lane: usize,
    /// From the request's last byte until it is answered 504. `None`: the server's own deadline.
    pub deadline: Option<Duration>,
    /// How many of its handlers may run at once. `None`: as many as there are workers.
    pub concurrency: Option<usize>,
    /// How many requests may wait beyond these. `None`: as many as in a lane.
    pub queue: Option<usize>,
}

/// What a request's method and path lead to.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// The handler of this route answers.
    Route {
        /// The number from the [`RouteSpec`].
        id: u32,
        /// The converted parameters of the path.
        params: Params,
    },
    /// Routes match the path, none has the method: 405 with this `Allow` field (RFC 9110 section 15.5.6).
    MethodNotAllowed {
        /// The value of the `Allow` field.
        allow: String,
    },
    /// `OPTIONS` for which no route was registered: an empty success with this `Allow` field (RFC 9110 section 9.3.7).
    Options {
        /// The value of the `Allow` field.
        allow: String,
    },
    /// No route matches the path: 404.
    NotFound,
    /// The path cannot be decoded: 400. The text says why, for the client.
    BadPath(&'static str),
}

/// The converted parameters of one path, in the order of the pattern. Empty without an allocation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Params(Vec<(u16, ParamValue)>);

impl Params {
    /// The pairs of name index (see [`RouteTable::param_name`]) and value, in the order of the pattern.
    pub fn iter(&self) -> std::slice::Iter<'_, (u16, ParamValue)> {
        self.0.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True for a route without parameters.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl IntoIterator for Params {
    type Item = (u16, ParamValue);
    type IntoIter = std::vec::IntoIter<(u16, ParamValue)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Params {
    type Item = &'a (u16, ParamValue);
    type IntoIter = std::slice::Iter<'a, (u16, ParamValue)>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Why a table cannot be built. The operator's fault: shown before the first socket is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteTableError {
    /// A part that cannot be compiled, most often a regular expression.
    Part {
        /// The route it stands in.
        id: u32,
        /// The pattern, as text.
        pattern: String,
        /// What is wrong with it.
        error: PartError,
    },
    /// Two routes with equal patterns and a method in common, so that no rule says which one wins.
    Conflict {
        /// The route that was there first.
        first: u32,
        /// The one that came after it.
        second: u32,
        /// Their pattern, as text.
        pattern: String,
    },
    /// The ids of the specs are not `0..n`, each once.
    Ids,
    /// A route without any part: even `/` has one, which is empty.
    NoParts {
        /// The route.
        id: u32,
    },
    /// More than 63 different methods, or more than 65,535 different parameter names.
    TooMany(&'static str),
}

impl fmt::Display for RouteTableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Part { pattern, error, .. } => write!(f, "route {pattern}: {error}"),
            Self::Conflict { first, second, pattern } => {
                write!(f, "routes {first} and {second} both answer {pattern} for the same method")
            }
            Self::Ids => f.write_str("the ids of the routes must count from 0 without gaps"),
            Self::NoParts { id } => write!(f, "route {id} has no parts"),
            Self::TooMany(what) => write!(f, "too many different {what}"),
        }
    }
}

impl std::error::Error for RouteTableError {}

/// A route as the search needs it.
struct Route {
    id: u32,
    steps: Box<[RouteStep]>,
    /// How many of the steps have a name: 0 spares all work on parameters.
    names: usize,
}

/// One part of a route, compiled, with the index of its parameter's name.
struct RouteStep {
    /// `None`: a `Rest`.
    test: Option<SegmentTest>,
    name: Option<u16>,
}

/// The compiled routes of one server. Built at start, then shared read-only.
pub struct RouteTable {
    /// Most specific first: an index into this is also the rank of a route.
    routes: Vec<Route>,
    tree: Tree,
    /// Whole raw paths of wholly literal routes: nothing is more specific, so a hit ends the search before it begins.
    literal_paths: HashMap<Box<str>, u32>,
    /// The length in bytes of the longest of them: longer paths need not be hashed.
    literal_path_bytes_max: usize,
    methods: Methods,
    policies: Vec<Policy>,
    names: Vec<String>,
}

impl RouteTable {
    /// Compiles the routes. The order of `specs` is the order of registration.
    ///
    /// # Errors
    ///
    /// [`RouteTableError`], in words for the operator.
    pub fn build(specs: Vec<RouteSpec>) -> Result<Self, RouteTableError> {
        let policies = policies_by_id(&specs)?;
        let mut specs = specs;
        // Stable: what compares as equal stays in the order of registration.
        specs.sort_by(|a, b| part::compare_specificity(&a.parts, &b.parts));

        let mut table = Self {
            routes: Vec::with_capacity(specs.len()),
            tree: Tree::new(),
            literal_paths: HashMap::new(),
            literal_path_bytes_max: 0,
            methods: Methods::new(),
            policies,
            names: Vec::new(),
        };
        for spec in &specs {
            table.insert(spec)?;
        }
        table.tree.finish();
        Ok(table)
    }

    fn insert(&mut self, spec: &RouteSpec) -> Result<(), RouteTableError> {
        if spec.parts.is_empty() {
            return Err(RouteTableError::NoParts { id: spec.id });
        }
        let mut steps = Vec::with_capacity(spec.parts.len());
        for part in &spec.parts {
            let test = SegmentTest::compile(part).map_err(|error| RouteTableError::Part {
                id: spec.id,
                pattern: part::pattern_text(&spec.parts),
                error,
            })?;
            let name = part.name().map(|name| self.name_index(name)).transpose()?;
            steps.push(RouteStep { test, name });
        }
        let mask = match &spec.methods {
            None => Methods::ANY,
            Some(methods) => self.methods.register(methods).ok_or(RouteTableError::TooMany("methods"))?,
        };
        let rank = self.routes.len() as u32;
        let node = self.tree.insert(steps.iter().map(|step| step.test.as_ref()));
        if let Err(other) = self.tree.end_route(node, mask, rank) {
            // Sorting mixed the routes: tell them in the order of registration, as ids count.
            let other = self.routes[other as usize].id;
            return Err(RouteTableError::Conflict {
                first: other.min(spec.id),
                second: other.max(spec.id),
                pattern: part::pattern_text(&spec.parts),
            });
        }
        if let Some(path) = literal_path(&spec.parts) {
            self.literal_path_bytes_max = self.literal_path_bytes_max.max(path.len());
            self.literal_paths.insert(path.into_boxed_str(), node);
        }
        let names = steps.iter().filter(|step| step.name.is_some()).count();
        self.routes.push(Route { id: spec.id, steps: steps.into_boxed_slice(), names });
        Ok(())
    }

    fn name_index(&mut self, name: &str) -> Result<u16, RouteTableError> {
        if let Some(index) = self.names.iter().position(|known| known == name) {
            return Ok(index as u16);
        }
        let index = u16::try_from(self.names.len()).map_err(|_| RouteTableError::TooMany("parameter names"))?;
        self.names.push(name.to_owned());
        Ok(index)
    }

    /// Finds the route of a request. The IO thread calls this once for each request.
    ///
    /// `method` is compared case-sensitively. `raw_path` is the path of the request target as received, without the query
    /// (RFC 9112 section 3.2). `*`, the asterisk form, is answered for `OPTIONS` with all methods of the table.
    pub fn find(&self, method: &str, raw_path: &str) -> Found {
        let wanted = self.methods.wanted(method);
        if raw_path.len() <= self.literal_path_bytes_max {
            let node = self.literal_paths.get(raw_path);
            if let Some(rank) = node.and_then(|&node| self.tree.route_at(node, wanted)) {
                return Found::Route { id: self.routes[rank as usize].id, params: Params::default() };
            }
        }
        let Some(path) = raw_path.strip_prefix('/') else {
            return self.without_path(method, raw_path);
        };
        match SplitPath::new(path) {
            Ok(path) => path.with_segments(|segments| self.find_segments(method, wanted, segments)),
            Err(reason) => Found::BadPath(reason),
        }
    }

    fn find_segments(&self, method: &str, wanted: Wanted, segments: &[&str]) -> Found {
        let outcome = self.tree.search(segments, wanted);
        if let Some(rank) = outcome.best {
            let route = &self.routes[rank as usize];
            return Found::Route { id: route.id, params: route.params(segments) };
        }
        match outcome.allowed {
            0 => Found::NotFound,
            allowed if method == "OPTIONS" => Found::Options { allow: self.methods.allow_text(allowed) },
            allowed => Found::MethodNotAllowed { allow: self.methods.allow_text(allowed) },
        }
    }

    /// The forms of a request target that name no path (RFC 9112 sections 3.2.3 and 3.2.4).
    fn without_path(&self, method: &str, target: &str) -> Found {
        if target == "*" && method == "OPTIONS" {
            return Found::Options { allow: self.methods.allow_text(self.methods.all()) };
        }
        Found::NotFound
    }

    /// The policy of a route that [`find`](Self::find) named.
    ///
    /// # Panics
    ///
    /// For an id that is not in the table.
    pub fn policy(&self, id: u32) -> &Policy {
        &self.policies[id as usize]
    }

    /// The name behind an index of [`Params`].
    ///
    /// # Panics
    ///
    /// For an index that no parameter has.
    pub fn param_name(&self, index: u16) -> &str {
        &self.names[usize::from(index)]
    }

    /// All parameter names; a name's place is its index.
    pub fn param_names(&self) -> &[String] {
        &self.names
    }

    /// How many routes there are.
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// True for a table that answers everything with 404.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }
}

impl fmt::Debug for RouteTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteTable").field("routes", &self.routes.len()).finish_non_exhaustive()
    }
}

impl Route {
    /// The converted parameters of `segments`, which this route is known to match.
    fn params(&self, segments: &[&str]) -> Params {
        if self.names == 0 {
            return Params::default();
        }
        let mut params = Vec::with_capacity(self.names);
        let mut rest = &self.steps[..];
        let mut at = 0;
        while let Some((step, after)) = rest.split_first() {
            let end = match &step.test {
                Some(_) => at + 1,
                None => at + rest_len(after, &segments[at..]),
            };
            if let Some(name) = step.name {
                let value = match &step.test {
                    Some(test) => test.value(segments[at]),
                    None => ParamValue::Text(segments[at..end].join("/")),
                };
                params.push((name, value));
            }
            at = end;
            rest = after;
        }
        Params(params)
    }
}

/// How many of `segments` a `Rest` takes when `after` follows it: as few as possible, at least one.
///
/// The parts up to the next `Rest` are a block of fixed length. The leftmost place at which the block fits is always right,
/// as it leaves the most to what follows; the last block can only stand at the end of the path.
fn rest_len(after: &[RouteStep], segments: &[&str]) -> usize {
    let block = after.iter().position(|step| step.test.is_none());
    let Some(block) = block else {
        return segments.len() - after.len();
    };
    let fits = |start: &usize| {
        let tests = after[..block].iter().filter_map(|step| step.test.as_ref());
        tests.zip(&segments[*start..]).all(|(test, segment)| test.matches(segment))
    };
    (1..segments.len()).find(fits).expect("the search has found this route to match")
}

fn policies_by_id(specs: &[RouteSpec]) -> Result<Vec<Policy>, RouteTableError> {
    let mut policies = vec![None; specs.len()];
    for spec in specs {
        let place = policies.get_mut(spec.id as usize).ok_or(RouteTableError::Ids)?;
        if place.replace(spec.policy.clone()).is_some() {
            return Err(RouteTableError::Ids);
        }
    }
    policies.into_iter().collect::<Option<_>>().ok_or(RouteTableError::Ids)
}

/// The one raw path, free of percent-encoding, that a wholly literal pattern matches.
fn literal_path(parts: &[Part]) -> Option<String> {
    let mut path = String::new();
    for part in parts {
        // A decoded slash or percent sign can only have come encoded: such a text is no raw path.
        let text = match part {
            Part::Literal(text) if !text.contains(['/', '%']) => text,
            _ => return None,
        };
        path.push('/');
        path.push_str(text);
    }
    Some(path)
}
