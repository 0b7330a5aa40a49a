//! Route tables, held against a matcher that tries everything.
//!
//! An input is text: routes such as `GET,POST /users/{id:int}` a line each, `*` for every method; an empty line; then
//! requests such as `GET /users/7`. What is no such line is passed over, so that most mutations leave a table.

use ushabti_core::routes::{Found, Part, Policy, RouteSpec, RouteTable, RouteTableError};

use crate::matcher::{Answer, EXPRESSIONS, answer, conflict};

/// More routes only make the plain matcher slow.
const ROUTES_MAX: usize = 16;
const REQUESTS_MAX: usize = 16;
/// It tries every split, of which there are too many in longer paths.
const SEGMENTS_MAX: usize = 10;
const PARTS_MAX: usize = 8;

/// Builds a table and asks it.
pub fn check(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (routes, requests) = text.split_once("\n\n").unwrap_or((&text, ""));
    let specs: Vec<RouteSpec> = routes.lines().filter_map(route).take(ROUTES_MAX).collect();
    let specs: Vec<RouteSpec> =
        (0..).zip(specs).map(|(id, spec)| RouteSpec { id, policy: policy(id), ..spec }).collect();
    let table = match RouteTable::build(specs.clone()) {
        Ok(table) => {
            assert_eq!(conflict(&specs), None, "{routes}");
            table
        }
        Err(RouteTableError::Conflict { first, second, .. }) => {
            let named = [first, second].map(|id| specs[id as usize].clone());
            assert!(first < second && conflict(&named).is_some(), "{first} and {second} do not conflict: {routes}");
            return;
        }
        Err(error) => panic!("{error}: {routes}"),
    };
    assert_eq!(table.len(), specs.len());
    for request in requests.lines().take(REQUESTS_MAX) {
        let Some((method, path)) = request.split_once(' ') else { continue };
        if path.matches('/').count() > SEGMENTS_MAX {
            continue;
        }
        assert_eq!(found(&table, method, path), answer(&specs, method, path), "{request:?} of\n{routes}");
    }
}

fn found(table: &RouteTable, method: &str, path: &str) -> Answer {
    match table.find(method, path) {
        Found::Route { id, params } => {
            assert_eq!(table.policy(id).body_bytes_max, Some(u64::from(id)), "the policy is that of the route");
            let named = params.into_iter().map(|(name, value)| (table.param_name(name).to_owned(), value));
            Answer::Route(id, named.collect())
        }
        Found::MethodNotAllowed { allow } => Answer::MethodNotAllowed(allow),
        Found::Options { allow } => Answer::Options(allow),
        Found::NotFound => Answer::NotFound,
        Found::BadPath(reason) => {
            assert!(!reason.is_empty());
            Answer::BadPath
        }
    }
}

fn route(line: &str) -> Option<RouteSpec> {
    let (methods, pattern) = line.split_once(' ')?;
    let parts: Vec<Part> = pattern.strip_prefix('/')?.split('/').map(part).collect();
    (parts.len() <= PARTS_MAX).then(|| RouteSpec {
        id: 0,
        methods: (methods != "*").then(|| methods.split(',').map(str::to_owned).collect()),
        parts,
        policy: policy(0),
    })
}

/// Told apart from those of other routes.
fn policy(id: u32) -> Policy {
    Policy { body_bytes_max: Some(u64::from(id)), access_log: true, ..Policy::default() }
}

/// Any text is a part: what is not written as another is a literal.
fn part(text: &str) -> Part {
    let owned = str::to_owned;
    if let Some((prefix, (inside, suffix))) =
        text.split_once('{').and_then(|(prefix, rest)| Some((prefix, rest.rsplit_once('}')?)))
    {
        let (name, kind) = inside.split_once(':').unwrap_or((inside, "text"));
        let kind = match kind {
            "path" => return Part::Rest { name: Some(owned(name)) },
            "slug" | "int" | "float" | "uuid" => owned(kind),
            number => match number.parse::<usize>() {
                // An expression by its number, as the plain matcher knows only these.
                Ok(number) => format!("re:{}", EXPRESSIONS[number % EXPRESSIONS.len()].0),
                Err(_) => owned("text"),
            },
        };
        return Part::from_texts(&["param", name, &kind, prefix, suffix]).expect("these kinds are known");
    }
    match text.split('*').collect::<Vec<_>>()[..] {
        ["", ""] => Part::Any,
        ["", "", ""] => Part::Rest { name: None },
        ["", middle, ""] => Part::Contains(owned(middle)),
        [prefix, suffix] => Part::Affix { prefix: owned(prefix), suffix: owned(suffix) },
        _ => Part::Literal(owned(text)),
    }
}
