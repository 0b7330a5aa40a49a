//! The tree of all patterns, and the search through it that visits no node twice.

use std::ops::{Range, RangeInclusive};

use super::segment::SegmentTest;

/// The depth of a subtree that has a `Rest` in it.
const UNBOUNDED: usize = usize::MAX;

/// A set of methods: one bit for each that the table knows.
type MethodSet = u64;

/// The methods that the routes of a table name.
pub(super) struct Methods {
    names: Vec<String>,
}

/// The methods that a route may have for one request: `own` is looked for first, then `fallback`.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    own: MethodSet,
    fallback: MethodSet,
}

impl Methods {
    /// The set of a route that answers every method, those included that the table does not know.
    pub(super) const ANY: MethodSet = MethodSet::MAX;
    /// The bit of all methods that no route names: only [`ANY`](Self::ANY) has it.
    const UNKNOWN: MethodSet = 1 << 63;
    const GET: MethodSet = 1;
    const HEAD: MethodSet = 1 << 1;
    const OPTIONS: MethodSet = 1 << 6;

    pub(super) fn new() -> Self {
        // The order of the bits, and of Allow fields.
        let names = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
        Self { names: names.map(str::to_owned).to_vec() }
    }

    /// The set of these methods, or `None` if there are no bits left.
    pub(super) fn register(&mut self, methods: &[String]) -> Option<MethodSet> {
        let mut set = 0;
        for method in methods {
            let known = self.names.iter().position(|name| name == method);
            let bit = known.unwrap_or_else(|| {
                self.names.push(method.clone());
                self.names.len() - 1
            });
            if bit >= 63 {
                return None;
            }
            set |= 1 << bit;
        }
        Some(set)
    }

    pub(super) fn wanted(&self, method: &str) -> Wanted {
        let bit = self.names.iter().position(|name| name == method);
        let own = bit.map_or(Self::UNKNOWN, |bit| 1 << bit);
        // What answers GET answers HEAD (RFC 9110 section 9.3.2).
        Wanted { own, fallback: if own == Self::HEAD { Self::GET } else { 0 } }
    }

    /// The set of all methods that some route names.
    pub(super) fn all(&self) -> MethodSet {
        (1 << self.names.len()) - 1
    }

    /// The value of an Allow field: these methods, and those that are answered without a route.
    pub(super) fn allow_text(&self, set: MethodSet) -> String {
        let implied = if set & Self::GET == 0 { Self::OPTIONS } else { Self::OPTIONS | Self::HEAD };
        let bits = self.names.iter().enumerate().filter(|(bit, _)| (set | implied) >> bit & 1 == 1);
        bits.map(|(_, name)| name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// A place in the tree: what has been matched when the search gets there is the same for all routes below.
struct Node {
    /// Sorted by text.
    literals: Vec<(Box<str>, u32)>,
    /// In the order in which the patterns came, so the most specific first.
    tests: Vec<(SegmentTest, u32)>,
    rest: Option<u32>,
    /// The routes that end here. Their sets of methods are disjoint.
    ends: Vec<(MethodSet, u32)>,
    /// The rank of the best route in this subtree: a search that has a better one need not enter.
    best: u32,
    /// How many more segments the routes of this subtree match.
    depth: RangeInclusive<usize>,
}

pub(super) struct Tree {
    nodes: Vec<Node>,
}

/// What a search has found.
pub(super) struct Outcome {
    /// The rank of the most specific route that has the method.
    pub(super) best: Option<u32>,
    /// The methods of all routes that match, if there is no best one.
    pub(super) allowed: MethodSet,
    /// How often a segment was tested or looked up: what a hostile path would drive up.
    #[cfg(test)]
    pub(super) steps: usize,
}

impl Tree {
    pub(super) fn new() -> Self {
        Self { nodes: vec![Node::new()] }
    }

    /// Adds the nodes of a pattern, `None` being a `Rest`, and returns the last one.
    ///
    /// Patterns must come most specific first.
    pub(super) fn insert<'a>(&mut self, tests: impl Iterator<Item = Option<&'a SegmentTest>>) -> u32 {
        tests.fold(0, |node, test| {
            let next = self.nodes.len() as u32;
            let child = self.nodes[node as usize].child(test, next);
            if child == next {
                self.nodes.push(Node::new());
            }
            child
        })
    }

    /// Lets the route of this rank end at a node, or returns the rank of one that has a method in common with it.
    pub(super) fn end_route(&mut self, node: u32, methods: MethodSet, rank: u32) -> Result<(), u32> {
        let ends = &mut self.nodes[node as usize].ends;
        if let Some(&(_, other)) = ends.iter().find(|(others, _)| others & methods != 0) {
            return Err(other);
        }
        ends.push((methods, rank));
        Ok(())
    }

    /// Computes what the search prunes by. To be called once, after the last route.
    pub(super) fn finish(&mut self) {
        // Children are always added after their parents, so backwards is bottom up.
        for index in (0..self.nodes.len()).rev() {
            let node = &self.nodes[index];
            let segment = |&child: &u32| (child, false);
            let children =
                node.literals.iter().map(|(_, child)| child).chain(node.tests.iter().map(|(_, child)| child));
            let children = children.map(segment).chain(node.rest.iter().map(|&child| (child, true)));
            let own = node.ends.iter().map(|&(_, rank)| rank).min();
            let mut best = own.unwrap_or(u32::MAX);
            let (mut shallow, mut deep) = if own.is_some() { (0, 0) } else { (UNBOUNDED, 0) };
            for (child, is_rest) in children {
                let child = &self.nodes[child as usize];
                best = best.min(child.best);
                shallow = shallow.min(child.depth.start().saturating_add(1));
                deep = if is_rest { UNBOUNDED } else { deep.max(child.depth.end().saturating_add(1)) };
            }
            let node = &mut self.nodes[index];
            node.best = best;
            node.depth = shallow..=deep;
        }
    }

    /// The rank of the route that ends at `node` and has a wanted method.
    pub(super) fn route_at(&self, node: u32, wanted: Wanted) -> Option<u32> {
        self.nodes[node as usize].route(wanted)
    }

    /// Finds the best route for these segments.
    pub(super) fn search(&self, segments: &[&str], wanted: Wanted) -> Outcome {
        let outcome = Outcome {
            best: None,
            allowed: 0,
            #[cfg(test)]
            steps: 0,
        };
        let mut search = Search { nodes: &self.nodes, segments, wanted, outcome };
        if self.nodes[0].depth.contains(&segments.len()) {
            search.visit(0, &Positions::Span(0, 0));
        }
        search.outcome
    }
}

impl Node {
    fn new() -> Self {
        Self { literals: Vec::new(), tests: Vec::new(), rest: None, ends: Vec::new(), best: u32::MAX, depth: 0..=0 }
    }

    /// The child behind a part; `next` becomes it if there is none.
    fn child(&mut self, test: Option<&SegmentTest>, next: u32) -> u32 {
        match test {
            None => *self.rest.get_or_insert(next),
            Some(SegmentTest::Literal(name)) => match self.literals.binary_search_by(|(known, _)| known.cmp(name)) {
                Ok(at) => self.literals[at].1,
                Err(at) => {
                    self.literals.insert(at, (name.clone(), next));
                    next
                }
            },
            Some(test) => {
                if let Some((_, child)) = self.tests.iter().find(|(known, _)| known.is_same(test)) {
                    return *child;
                }
                self.tests.push((test.clone(), next));
                next
            }
        }
    }

    fn literal(&self, text: &str) -> Option<u32> {
        let at = self.literals.binary_search_by(|(known, _)| (**known).cmp(text)).ok()?;
        Some(self.literals[at].1)
    }

    fn route(&self, wanted: Wanted) -> Option<u32> {
        let with = |set: MethodSet| self.ends.iter().find(|(methods, _)| methods & set != 0).map(|&(_, rank)| rank);
        with(wanted.own).or_else(|| with(wanted.fallback))
    }
}

/// The positions in a path at which a node can be reached, ascending. Never empty.
///
/// Before the first `Rest` there is one; directly behind a `Rest` they are adjacent; only what follows may scatter them.
enum Positions {
    Span(usize, usize),
    List(Vec<usize>),
}

impl Positions {
    fn first(&self) -> usize {
        match self {
            Self::Span(first, _) => *first,
            Self::List(list) => list[0],
        }
    }

    fn last(&self) -> usize {
        match self {
            Self::Span(_, last) => *last,
            Self::List(list) => list[list.len() - 1],
        }
    }

    /// Those within `window`, without looking at the others.
    fn within(&self, window: &Range<usize>) -> impl Iterator<Item = usize> {
        let (span, list) = match self {
            Self::Span(first, last) => (window.start.max(*first)..window.end.min(last + 1), &[][..]),
            Self::List(list) => {
                let start = list.partition_point(|&position| position < window.start);
                let end = list.partition_point(|&position| position < window.end);
                (0..0, list.get(start..end).unwrap_or_default())
            }
        };
        span.chain(list.iter().copied())
    }

    /// Collects ascending positions; `None` if there are none.
    fn collect(mut positions: impl Iterator<Item = usize>) -> Option<Self> {
        let first = positions.next()?;
        let mut last = first;
        for position in positions.by_ref() {
            if position != last + 1 {
                let all = (first..=last).chain([position]).chain(positions);
                return Some(Self::List(all.collect()));
            }
            last = position;
        }
        Some(Self::Span(first, last))
    }
}

struct Search<'t, 'p> {
    nodes: &'t [Node],
    segments: &'p [&'p str],
    wanted: Wanted,
    outcome: Outcome,
}

impl<'t> Search<'t, '_> {
    /// Looks for routes below `node`, which can be reached at `positions`.
    fn visit(&mut self, node: u32, positions: &Positions) {
        let node = &self.nodes[node as usize];
        if self.outcome.best.is_some_and(|best| best < node.best) {
            return;
        }
        self.visit_literals(node, positions);
        for (test, child) in &node.tests {
            let window = self.window(*child, 1);
            let segments = self.segments;
            self.count(|| positions.within(&window).count());
            let matching = positions.within(&window).filter(|&position| test.matches(segments[position]));
            if let Some(next) = Positions::collect(matching.map(|position| position + 1)) {
                self.visit(*child, &next);
            }
        }
        if let Some(child) = node.rest {
            let window = self.window(child, 0);
            let first = window.start.max(positions.first() + 1);
            if first < window.end {
                self.visit(child, &Positions::Span(first, window.end - 1));
            }
        }
        if positions.last() == self.segments.len() {
            self.end(node);
        }
    }

    fn visit_literals(&mut self, node: &'t Node, positions: &Positions) {
        if node.literals.is_empty() {
            return;
        }
        if let Positions::Span(first, last) = positions {
            if first == last {
                self.visit_literal(node, *first);
                return;
            }
        }
        // Looked up from the path's side, so that a thousand literals cost no more than ten.
        let mut hits: Vec<(u32, usize)> = Vec::new();
        for position in positions.within(&(0..self.segments.len())) {
            self.count(|| 1);
            if let Some(child) = node.literal(self.segments[position]) {
                hits.push((child, position + 1));
            }
        }
        hits.sort_unstable();
        for hits in hits.chunk_by(|(a, _), (b, _)| a == b) {
            let window = self.window(hits[0].0, 0);
            let fitting = hits.iter().map(|&(_, position)| position).filter(|position| window.contains(position));
            if let Some(next) = Positions::collect(fitting) {
                self.visit(hits[0].0, &next);
            }
        }
    }

    fn visit_literal(&mut self, node: &'t Node, position: usize) {
        let Some(segment) = self.segments.get(position) else {
            return;
        };
        self.count(|| 1);
        if let Some(child) = node.literal(segment) {
            if self.window(child, 0).contains(&(position + 1)) {
                self.visit(child, &Positions::Span(position + 1, position + 1));
            }
        }
    }

    /// From which positions `child` may be entered by taking `taken` segments, so that the rest of the path can be as long
    /// as its routes are.
    fn window(&self, child: u32, taken: usize) -> Range<usize> {
        let depth = &self.nodes[child as usize].depth;
        let count = self.segments.len();
        match count.checked_sub(depth.start().saturating_add(taken)) {
            Some(latest) => count.saturating_sub(depth.end().saturating_add(taken))..latest + 1,
            // The path is too short.
            None => 0..0,
        }
    }

    fn end(&mut self, node: &Node) {
        match node.route(self.wanted) {
            Some(rank) => {
                self.outcome.best = Some(self.outcome.best.map_or(rank, |best| best.min(rank)));
            }
            None => {
                self.outcome.allowed = node.ends.iter().fold(self.outcome.allowed, |all, (set, _)| all | set);
            }
        }
    }

    #[cfg_attr(not(test), allow(clippy::unused_self, unused_variables))]
    fn count(&mut self, steps: impl FnOnce() -> usize) {
        #[cfg(test)]
        {
            self.outcome.steps += steps();
        }
    }
}
