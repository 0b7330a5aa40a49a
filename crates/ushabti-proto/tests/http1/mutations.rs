//! Valid requests, damaged at random: whatever comes of them, it does not depend on how the bytes arrive.

use ushabti_proto::http1::connection::Limits;

use crate::harness::{NEIGHBOUR, Outcome, RULES, Reading, Rules, chunked, get, head, post, read_once};
use crate::xorshift::Xorshift;

const ITERATIONS: usize = 20_000;

/// Limits that a few more bytes than usual pass.
const TIGHT: Rules =
    Rules { limits: Limits { head_bytes_max: 160, fields_max: 5, target_bytes_max: 40 }, body_max: 20 };

/// What parsers stumble over.
const TOKENS: [&[u8]; 34] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\0",
    b" ",
    b"\t",
    b":",
    b";",
    b",",
    b"=",
    b"\"",
    b"\\",
    b"/",
    b"?",
    b"#",
    b"%",
    b"@",
    b"[",
    b"]",
    b"*",
    b"0",
    b"F",
    b"\x7f",
    b"\xff",
    b"0\r\n\r\n",
    b"Host: a\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"chunked",
    b"HTTP/1.1",
    b"http://a",
    b"Connection: close\r\n",
    b"Expect: 100-continue\r\n",
];

fn corpus() -> Vec<Vec<u8>> {
    vec![
        NEIGHBOUR.to_vec(),
        head("GET /hello?a=1&b=%20 HTTP/1.1", &["Host: example.com:8080", "Accept: */*", "X-Test: \t v "]),
        head("GET http://a/hello HTTP/1.1", &["Host: b"]),
        head("OPTIONS * HTTP/1.1", &["Host: a"]),
        head("CONNECT a:443 HTTP/1.1", &["Host: a:443"]),
        head("GET / HTTP/1.0", &["Connection: keep-alive"]),
        [b"\r\n", NEIGHBOUR].concat(),
        get("Connection: Upgrade\r\nUpgrade: websocket"),
        post(&["Content-Length: 5"], "hello"),
        post(&["Expect: 100-continue", "Content-Length: 5"], "hello"),
        chunked("5\r\nhello\r\n0\r\n\r\n"),
        chunked("2\r\nhe\r\n3;a=b;c=\"d\\\"\"\r\nllo\r\n0;e\r\nX-Test: v\r\nY:\r\n\r\n"),
        chunked("000A\r\n0123456789\r\n1\r\nx\r\n1 ;a\r\ny\r\n0\r\n\r\n"),
        [post(&["Content-Length: 2"], "hi"), chunked("1\r\nx\r\n0\r\n\r\n"), NEIGHBOUR.to_vec()].concat(),
    ]
}

fn mutate(random: &mut Xorshift, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
    let at = random.below(input.len() + 1);
    let end = at + random.below(input.len() - at + 1).min(12);
    match random.below(7) {
        0 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        1 | 2 => {
            input.splice(at..at, random.choose(&TOKENS).iter().copied());
        }
        3 => {
            input.drain(at..end);
        }
        4 => {
            let copied = input[at..end].to_vec();
            input.splice(at..at, copied);
        }
        5 => input.truncate(at),
        _ => {
            let other = random.choose(corpus);
            input.truncate(at);
            input.extend_from_slice(&other[random.below(other.len())..]);
        }
    }
}

/// Up to six positions in rising order, some of them equal.
fn random_cuts(random: &mut Xorshift, length: usize) -> Vec<usize> {
    let mut cuts: Vec<usize> = (0..random.below(7)).map(|_| random.below(length + 1)).collect();
    cuts.sort_unstable();
    cuts
}

#[test]
fn damaged_requests_are_read_alike_however_they_are_cut() {
    let corpus = corpus();
    let mut random = Xorshift::new(0x2545_f491_4f6c_dd1d);
    let (mut complete, mut refused, mut waiting) = (0, 0, 0);
    for iteration in 0..ITERATIONS {
        let mut input = random.choose(&corpus).clone();
        for _ in 0..=random.below(2) {
            mutate(&mut random, &mut input, &corpus);
        }
        let rules = if random.one_in(3) { &TIGHT } else { &RULES };
        let whole = read_once(rules, &input, []);
        let cuts = random_cuts(&mut random, input.len());
        let text = String::from_utf8_lossy(&input);
        assert_eq!(read_once(rules, &input, cuts.iter().copied()), whole, "{iteration}: {text:?} cut at {cuts:?}");
        if random.one_in(8) {
            assert_eq!(read_once(rules, &input, 1..input.len()), whole, "{iteration}: {text:?} byte by byte");
        }
        match whole.outcome {
            Outcome::IDLE => {
                complete += 1;
                let Reading { mut requests, outcome } = read_once(rules, &[&input, NEIGHBOUR].concat(), []);
                let next = requests.pop().expect("the neighbour is read");
                assert_eq!((next.target.as_str(), outcome), ("/", Outcome::IDLE), "{iteration}: {text:?}");
                assert_eq!(requests, whole.requests, "{iteration}: {text:?}");
            }
            Outcome::Closed => complete += 1,
            Outcome::Waiting { .. } => waiting += 1,
            Outcome::Refused(_) => refused += 1,
        }
    }
    // Else this is a test of nothing.
    let counts = [complete, refused, waiting];
    assert!(counts.into_iter().all(|count| count > ITERATIONS / 20), "complete, refused, waiting: {counts:?}");
}
