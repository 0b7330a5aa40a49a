//! The rules of the table, each as a table of paths and what they lead to.

use super::*;

/// Builds a table of `METHODS /pattern` lines; `*` in place of methods is a route for every method.
fn table(lines: &[&str]) -> RouteTable {
    RouteTable::build(specs(lines)).expect("the routes of this test can be built")
}

fn specs(lines: &[&str]) -> Vec<RouteSpec> {
    let spec = |(id, line): (usize, &&str)| {
        let (methods, pattern) = line.split_once(' ').expect("methods and a pattern");
        RouteSpec {
            id: id as u32,
            methods: (methods != "*").then(|| methods.split(',').map(str::to_owned).collect()),
            parts: pattern[1..].split('/').map(part).collect(),
            policy: Policy { access_log: true, ..Policy::default() },
        }
    };
    lines.iter().enumerate().map(spec).collect()
}

/// Reads the text of one part. Enough for tests: regular expressions without a slash, no encoding.
fn part(text: &str) -> Part {
    let owned = str::to_owned;
    if let Some((prefix, rest)) = text.split_once('{') {
        let (inside, suffix) = rest.rsplit_once('}').expect("a closing brace");
        let (name, kind) = inside.split_once(':').unwrap_or((inside, "text"));
        if kind == "path" {
            return Part::Rest { name: Some(owned(name)) };
        }
        let regex = kind.strip_prefix("re(").map(|rest| format!("re:{}", &rest[..rest.len() - 1]));
        return Part::from_texts(&["param", name, regex.as_deref().unwrap_or(kind), prefix, suffix])
            .expect("a known kind");
    }
    match text.split('*').collect::<Vec<_>>()[..] {
        ["", ""] => Part::Any,
        ["", "", ""] => Part::Rest { name: None },
        ["", middle, ""] => Part::Contains(owned(middle)),
        [prefix, suffix] => Part::Affix { prefix: owned(prefix), suffix: owned(suffix) },
        _ => Part::Literal(owned(text)),
    }
}

/// What a request leads to, in a few characters: `3 id=7` for a route and its parameters.
fn found(table: &RouteTable, method: &str, path: &str) -> String {
    match table.find(method, path) {
        Found::Route { id, params } => params.iter().fold(id.to_string(), |text, (name, value)| {
            let name = table.param_name(*name);
            match value {
                ParamValue::Text(value) => format!("{text} {name}={value:?}"),
                ParamValue::Int(value) => format!("{text} {name}={value}"),
                ParamValue::Float(value) => format!("{text} {name}={value:?}"),
                ParamValue::Uuid(value) => format!("{text} {name}={value:032x}"),
            }
        }),
        Found::MethodNotAllowed { allow } => format!("405 {allow}"),
        Found::Options { allow } => format!("options {allow}"),
        Found::NotFound => "404".to_owned(),
        Found::BadPath(_) => "400".to_owned(),
    }
}

fn assert_found(lines: &[&str], cases: &[(&str, &str)]) {
    let table = table(lines);
    for (request, expected) in cases {
        let (method, path) = request.split_once(' ').unwrap_or(("GET", request));
        assert_eq!(found(&table, method, path), *expected, "{request} with {lines:?}");
    }
}

#[test]
fn literals_match_whole_segments_only() {
    assert_found(
        &["GET /", "GET /a", "GET /a/", "GET /a/b", "GET //x"],
        &[
            ("/", "0"),
            ("/a", "1"),
            ("/a/", "2"),
            ("/a/b", "3"),
            ("//x", "4"),
            ("/A", "404"),
            ("/ab", "404"),
            ("/a/b/", "404"),
            ("//", "404"),
            ("", "404"),
            ("a", "404"),
        ],
    );
}

#[test]
fn parameters_are_converted() {
    assert_found(
        &[
            "GET /t/{x}",
            "GET /s/{x:slug}",
            "GET /i/{x:int}",
            "GET /f/{x:float}",
            "GET /u/{x:uuid}",
            "GET /r/{x:re([a-c]+|z)}",
            "GET /p/{x:path}",
            "GET /two/{b}/{a:int}",
        ],
        &[
            ("/t/caf%C3%A9", "0 x=\"café\""),
            ("/t/a%2Fb", "0 x=\"a/b\""),
            ("/t/", "404"),
            ("/t/a/b", "404"),
            ("/s/a-B_9", "1 x=\"a-B_9\""),
            ("/s/a.b", "404"),
            ("/s/%C3%A9", "404"),
            ("/i/7", "2 x=7"),
            ("/i/-7", "2 x=-7"),
            ("/i/007", "2 x=7"),
            ("/i/+7", "404"),
            ("/i/-", "404"),
            ("/i/--7", "404"),
            ("/i/7_0", "404"),
            ("/i/%D9%A7", "404"),
            ("/i/9223372036854775807", "2 x=9223372036854775807"),
            ("/i/9223372036854775808", "404"),
            ("/i/-9223372036854775808", "2 x=-9223372036854775808"),
            ("/f/1", "3 x=1.0"),
            ("/f/-1.50", "3 x=-1.5"),
            ("/f/.5", "404"),
            ("/f/5.", "404"),
            ("/f/1e5", "404"),
            ("/f/inf", "404"),
            ("/f/nan", "404"),
            ("/f/1.2.3", "404"),
            ("/u/00112233-4455-6677-8899-aabbCCDDEEFF", "4 x=00112233445566778899aabbccddeeff"),
            ("/u/00112233445566778899aabbccddeeff", "404"),
            ("/u/00112233-4455-6677-8899-aabbccddeefg", "404"),
            ("/u/00112233-44556-677-8899-aabbccddeeff", "404"),
            ("/r/abc", "5 x=\"abc\""),
            ("/r/z", "5 x=\"z\""),
            ("/r/abcd", "404"),
            ("/r/abc%0A", "404"),
            ("/p/a", "6 x=\"a\""),
            ("/p/a/b%2Fc//d/", "6 x=\"a/b/c//d/\""),
            ("/two/x/5", "7 b=\"x\" a=5"),
        ],
    );
    let digits = "9".repeat(400);
    assert_found(&["GET /{x:float}"], &[(&format!("/{digits}"), "404")]);
}

#[test]
fn fixed_text_surrounds_a_parameter() {
    assert_found(
        &["GET /v{n:int}.json", "GET /{x}.txt", "GET /ab{x}ba"],
        &[
            ("/v12.json", "0 n=12"),
            ("/v.json", "404"),
            ("/a.txt", "1 x=\"a\""),
            ("/.txt", "404"),
            ("/a.txt.txt", "1 x=\"a.txt\""),
            ("/abxba", "2 x=\"x\""),
            ("/abba", "404"),
            ("/aba", "404"),
        ],
    );
}

#[test]
fn stars_match_within_one_segment() {
    assert_found(
        &["GET /any/*", "GET /*.js", "GET /page_*", "GET /pre*suf", "GET /*mid*"],
        &[
            ("/any/", "0"),
            ("/any/x", "0"),
            ("/any", "404"),
            ("/any/x/y", "404"),
            ("/x.js", "1"),
            ("/.js", "1"),
            ("/page_", "2"),
            ("/page_%2F", "2"),
            ("/presuf", "3"),
            ("/pre-suf", "3"),
            ("/presu", "404"),
            ("/mid", "4"),
            ("/a-mid-b", "4"),
            ("/mi-d", "404"),
        ],
    );
    // Start and end may not share characters.
    assert_found(&["GET /aa*aa"], &[("/aaa", "404"), ("/aaaa", "0"), ("/aa", "404")]);
}

#[test]
fn double_star_takes_one_or_more_segments() {
    assert_found(
        &["GET /files/**", "GET /**/thing", "GET /x/**/y/**/z"],
        &[
            ("/files", "404"),
            ("/files/", "0"),
            ("/files/a", "0"),
            ("/files/a/b/", "0"),
            ("/thing", "404"),
            ("/a/thing", "1"),
            ("//thing", "1"),
            ("/a/b/thing", "1"),
            ("/a/b/thing/c", "404"),
            ("/x/y/z", "404"),
            ("/x/1/y/z", "404"),
            ("/x/1/y/2/z", "2"),
            ("/x/y/y/y/z", "2"),
            ("/x/1/2/y/3/y/4/z", "2"),
            ("/x/1/y/2/z/", "404"),
        ],
    );
    assert_found(&["GET /**"], &[("/", "0"), ("/a", "0"), ("//", "0")]);
    assert_found(&["GET /**/**"], &[("/", "404"), ("/a/b", "0"), ("/a/b/c", "0")]);
    assert_found(&["GET /**/*"], &[("/a", "404"), ("/a/", "0"), ("/a/b/c", "0")]);
}

#[test]
fn the_leftmost_rest_takes_as_little_as_it_can() {
    assert_found(
        &["GET /{a:path}/x/{b:path}", "GET /e/{a:path}/{b:path}", "GET /w/{a:path}/{n:int}"],
        &[
            ("/1/x/2", "0 a=\"1\" b=\"2\""),
            ("/x/x/x", "0 a=\"x\" b=\"x\""),
            ("/1/x/2/x/3", "0 a=\"1\" b=\"2/x/3\""),
            ("/x/1/x/2", "0 a=\"x/1\" b=\"2\""),
            ("/e/1/2/3", "1 a=\"1\" b=\"2/3\""),
            ("/w/1/2/3", "2 a=\"1/2\" n=3"),
        ],
    );
}

#[test]
fn the_most_specific_route_wins_in_any_order_of_registration() {
    let ladder = [
        "GET /p/1.0",
        "GET /p/{x:re([0-9]\\.[0-9])}",
        "GET /p/{x:float}",
        "GET /p/{x}0",
        "GET /p/{x}",
        "GET /p/1.*",
        "GET /p/1*",
        "GET /p/*.*",
        "GET /p/*",
        "GET /p/{x:path}",
    ];
    for first in 0..ladder.len() {
        let mut lines = ladder[first..].to_vec();
        let ahead = table(&lines).find("GET", "/p/1.0");
        assert!(matches!(ahead, Found::Route { id: 0, .. }), "{lines:?}: {ahead:?}");
        lines.reverse();
        let last = lines.len() as u32 - 1;
        let behind = table(&lines).find("GET", "/p/1.0");
        assert!(matches!(behind, Found::Route { id, .. } if id == last), "{lines:?}: {behind:?}");
    }
}

#[test]
fn an_earlier_part_decides_before_a_later_one() {
    assert_found(
        &["GET /{x}/b", "GET /a/{x}", "GET /**", "GET /a/**", "GET /**/b/**", "GET /**/{x}/**"],
        &[
            ("/a/b", "1 x=\"b\""),
            ("/a/b/c", "3"),
            ("/c/b", "0 x=\"c\""),
            ("/c/d", "2"),
            ("/p/q/b/z", "4"),
            ("/p/q/r/z", "5 x=\"q\""),
        ],
    );
}

#[test]
fn a_dead_end_falls_back_to_a_less_specific_branch() {
    assert_found(
        &["GET /a/b/c", "GET /a/{x}/d", "GET /{x:path}/e"],
        &[("/a/b/c", "0"), ("/a/b/d", "1 x=\"b\""), ("/a/b/e", "2 x=\"a/b\""), ("/a/b/f", "404")],
    );
}

#[test]
fn a_route_counts_only_if_it_has_the_method() {
    assert_found(
        &["GET /users/me", "POST,PUT /users/{id}", "* /any", "PURGE /users/**"],
        &[
            ("GET /users/me", "0"),
            ("HEAD /users/me", "0"),
            ("POST /users/me", "1 id=\"me\""),
            ("PURGE /users/me", "3"),
            ("DELETE /users/me", "405 GET, HEAD, POST, PUT, OPTIONS, PURGE"),
            ("OPTIONS /users/me", "options GET, HEAD, POST, PUT, OPTIONS, PURGE"),
            ("GET /users/7", "405 POST, PUT, OPTIONS, PURGE"),
            ("get /users/me", "405 GET, HEAD, POST, PUT, OPTIONS, PURGE"),
            ("DELETE /nobody", "404"),
            ("OPTIONS /nobody", "404"),
            ("OPTIONS /any", "2"),
            ("BREW /any", "2"),
        ],
    );
}

#[test]
fn a_registered_head_or_options_wins_over_the_automatic_one() {
    assert_found(
        &["GET /a", "HEAD /a", "OPTIONS /a", "GET /b", "OPTIONS /**", "HEAD /c"],
        &[
            ("HEAD /a", "1"),
            ("OPTIONS /a", "2"),
            ("OPTIONS /b", "4"),
            ("HEAD /b", "3"),
            ("GET /c", "405 HEAD, OPTIONS"),
        ],
    );
}

#[test]
fn the_asterisk_form_is_answered_with_every_method() {
    assert_found(
        &["GET /a", "PURGE /b"],
        &[("OPTIONS *", "options GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, PURGE"), ("GET *", "404")],
    );
}

#[test]
fn encoded_paths_mean_the_same_and_keep_their_slashes() {
    assert_found(
        &["GET /a b/c", "GET /é", "GET /{x}/{y}", "GET /100%"],
        &[
            ("/a%20b/c", "0"),
            ("/%C3%A9", "1"),
            ("/%c3%a9", "1"),
            ("/a%2fb", "404"),
            ("/a%2Fb/c", "2 x=\"a/b\" y=\"c\""),
            ("/a+b/c", "2 x=\"a+b\" y=\"c\""),
            ("/100%25", "3"),
            ("/100%2525", "404"),
            ("/%61%20b/%63", "0"),
        ],
    );
    let slash = Part::Literal("a/b".to_owned());
    let mut specs = specs(&["GET /x"]);
    specs[0].parts = vec![slash];
    let table = RouteTable::build(specs).expect("one route");
    assert_eq!(found(&table, "GET", "/a%2Fb"), "0");
    assert_eq!(found(&table, "GET", "/a/b"), "404");
}

#[test]
fn a_path_that_cannot_be_decoded_is_refused_whatever_the_routes() {
    for lines in [&["GET /**"][..], &["GET /a"]] {
        for path in ["/%", "/%4", "/%zz", "/%+1", "/%C3", "/%FF/a", "/a/%E2%82", "/%C3/%A9", "/%é1"] {
            assert_eq!(found(&table(lines), "GET", path), "400", "{path}");
        }
    }
}

#[test]
fn equal_patterns_with_a_common_method_are_refused() {
    for (lines, conflicts) in [
        (&["GET /a/{x}", "GET /a/{y}"][..], true),
        (&["GET /a", "POST,GET /a"], true),
        (&["GET /a", "* /a"], true),
        (&["GET /**", "GET /{x:path}"], true),
        (&["GET /{x:re(a)}", "GET /{x:re(a)}"], true),
        (&["GET /a/{x}", "POST /a/{y}"], false),
        (&["GET /a", "HEAD /a"], false),
        (&["GET /{x:int}", "GET /{x:float}"], false),
        (&["GET /{x:re(a)}", "GET /{x:re(b)}"], false),
        (&["GET /a", "GET /a/"], false),
    ] {
        let built = RouteTable::build(specs(lines));
        let conflict = matches!(built, Err(RouteTableError::Conflict { first: 0, second: 1, .. }));
        assert_eq!(conflict, conflicts, "{lines:?}: {built:?}");
    }
}

#[test]
fn each_route_names_its_own_parameters() {
    assert_found(
        &["GET /{id}/x", "POST /{name}/x", "GET /{who}/y"],
        &[("GET /7/x", "0 id=\"7\""), ("POST /7/x", "1 name=\"7\""), ("GET /7/y", "2 who=\"7\"")],
    );
}

#[test]
fn equal_ranks_go_by_registration() {
    assert_found(
        &["GET /{x:re([a-m]+)}", "GET /{x:re([h-z]+)}"],
        &[("/az", "404"), ("/kk", "0 x=\"kk\""), ("/z", "1 x=\"z\"")],
    );
    assert_found(&["GET /{x:re([h-z]+)}", "GET /{x:re([a-m]+)}"], &[("/kk", "0 x=\"kk\"")]);
}

#[test]
fn a_bad_expression_names_route_and_parameter() {
    for expression in ["[a", "a)|(b", "(?=a)", r"(a)\1", "(?x)a#"] {
        let mut specs = specs(&["GET /x/{y}"]);
        specs[0].parts[1] = Part::Param {
            name: "y".to_owned(),
            kind: ParamKind::Pattern(expression.to_owned()),
            prefix: String::new(),
            suffix: String::new(),
        };
        let error = RouteTable::build(specs).expect_err("refused").to_string();
        assert!(error.contains("/x/{y:re(") && error.contains("\"y\""), "{error}");
    }
}

#[test]
fn ids_are_checked_and_policies_found_by_them() {
    let mut lines = specs(&["GET /{x}", "GET /a"]);
    lines[1].policy = Policy { body_bytes_max: Some(5), ..Policy::default() };
    let table = RouteTable::build(lines.clone()).expect("two routes");
    assert_eq!(table.policy(1).body_bytes_max, Some(5));
    assert!(table.policy(0).access_log);
    lines[1].id = 0;
    assert_eq!(RouteTable::build(lines.clone()).expect_err("twice"), RouteTableError::Ids);
    lines[1].id = 2;
    assert_eq!(RouteTable::build(lines.clone()).expect_err("a gap"), RouteTableError::Ids);
    lines[1].id = 1;
    lines[0].parts.clear();
    assert_eq!(RouteTable::build(lines).expect_err("no parts"), RouteTableError::NoParts { id: 0 });
}

#[test]
fn more_methods_than_bits_are_refused() {
    let line = |count: usize| {
        let methods: Vec<_> = (0..count).map(|index| format!("M{index}")).collect();
        format!("{} /", methods.join(","))
    };
    assert_found(&[&line(56)], &[("M55 /", "0"), ("M56 /", "405 ")][..1]);
    let refused = RouteTable::build(specs(&[&line(57)])).expect_err("64 methods");
    assert_eq!(refused, RouteTableError::TooMany("methods"));
}

#[test]
fn an_empty_table_finds_nothing() {
    assert_found(&[], &[("/", "404"), ("", "404"), ("/%", "400")]);
}

#[test]
fn parts_are_read_from_plain_texts() {
    let read = |texts: &[&str]| Part::from_texts(texts);
    assert_eq!(read(&["any"]), Ok(Part::Any));
    assert_eq!(read(&["contains", "x"]), Ok(Part::Contains("x".to_owned())));
    assert_eq!(read(&["param", "x", "re:a:b", "", ""]), Ok(part("{x:re(a:b)}")));
    for wrong in [&[][..], &["any", ""], &["param", "x", "bool", "", ""], &["what"]] {
        assert!(read(wrong).is_err(), "{wrong:?}");
    }
}

/// Steps a search takes for a path, to hold against nodes times segments.
fn steps(table: &RouteTable, path: &str) -> usize {
    let segments: Vec<_> = path[1..].split('/').collect();
    let wanted = table.methods.wanted("GET");
    table.tree.search(&segments, wanted).steps
}

#[test]
fn hostile_paths_cost_at_most_nodes_times_segments() {
    let many_rests = format!("GET {}/end", "/**/a".repeat(20));
    let many_stars = format!("GET {}/**/end", "/**/*".repeat(20));
    let mixed = format!("GET {}/end", "/**/{x}/*a*/{y:re(a*)}".repeat(10));
    let table = table(&[&many_rests, &many_stars, &mixed]);
    let nodes = 42 + 42 + 42;
    for segments in [10, 100, 1_000, 10_000] {
        let path = "/a".repeat(segments);
        let taken = steps(&table, &path);
        assert!(taken <= nodes * segments, "{taken} steps for {segments} segments");
        assert_eq!(found(&table, "GET", &path), "404");
    }
    assert!(found(&table, "GET", &format!("{}/end", "/a".repeat(1_000))).starts_with('0'));
}

#[test]
fn a_thousand_literals_cost_no_more_than_one() {
    let lines: Vec<_> = (0..1_000).map(|index| format!("GET /**/n{index}/**")).collect();
    let lines: Vec<_> = lines.iter().map(String::as_str).collect();
    let table = table(&lines);
    let taken = steps(&table, &"/x".repeat(1_000));
    assert!(taken <= 1_000, "{taken}");
    assert_eq!(found(&table, "GET", "/a/b/n77/c"), "77");
}

#[test]
fn what_stands_behind_the_only_rest_is_tested_at_the_end_of_the_path_only() {
    let table = table(&["GET /**/{n:int}/{x:re(a+)}"]);
    assert!(steps(&table, &"/1".repeat(10_000)) <= 4);
}

#[test]
fn routes_without_parameters_need_no_memory() {
    let table = table(&["GET /a/b", "GET /a/*", "GET /files/**", "GET /n/{n:int}"]);
    for path in ["/a/b", "/a/c", "/files/x/y/z"] {
        let Found::Route { params, .. } = table.find("GET", path) else { panic!("{path} has a route") };
        assert_eq!(params.0.capacity(), 0);
    }
}
