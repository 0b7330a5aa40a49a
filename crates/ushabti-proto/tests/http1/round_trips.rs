//! What is written by the rules is read as it was meant: requests made at random, and our own chunks.

use ushabti_proto::http1::encode::{LAST_CHUNK, encode_chunk};

use crate::harness::{Outcome, RULES, accepted, chunked, read_once};
use crate::xorshift::Xorshift;

const ITERATIONS: usize = 3_000;

const METHODS: [&str; 5] = ["GET", "POST", "PATCH", "M-SEARCH", "x"];
const SPACES: [&str; 5] = ["", " ", "\t", "  ", " \t "];
const EXTENSIONS: [&str; 6] = ["", "", ";a", ";a=b", " ; a = \"b;\\\"c\"", ";a;b=\"\""];
const NAME_BYTES: &[u8] = b"abcXYZ019-_.~!";
const VALUE_BYTES: &[u8] = b"abc XYZ\t019,;:=\"()\xc3\xbc";
const PATH_BYTES: &[u8] = b"abc/019-._~%:@!$&'()*+,;=";

/// A request as it was meant.
#[derive(Debug, PartialEq, Eq)]
struct Meant {
    method: String,
    path: String,
    query: Option<String>,
    fields: Vec<(String, Vec<u8>)>,
    content: Vec<u8>,
}

fn random_bytes(random: &mut Xorshift, from: &[u8], length: usize) -> Vec<u8> {
    (0..length).map(|_| *random.choose(from)).collect()
}

fn random_text(random: &mut Xorshift, from: &[u8], length: usize) -> String {
    String::from_utf8(random_bytes(random, from, length)).expect("the alphabet is ASCII")
}

/// Field values have no white space at their ends, so these are cut off what is drawn.
fn random_value(random: &mut Xorshift) -> Vec<u8> {
    let length = random.below(20);
    random_bytes(random, VALUE_BYTES, length).trim_ascii().to_vec()
}

fn random_request(random: &mut Xorshift) -> Meant {
    let length = random.below(30);
    let path = format!("/{}", random_text(random, PATH_BYTES, length));
    let length = random.below(20);
    let query = random.one_in(2).then(|| random_text(random, PATH_BYTES, length));
    let mut fields = vec![("Host".to_owned(), b"example.com".to_vec())];
    for _ in 0..random.below(6) {
        let length = 1 + random.below(12);
        // The prefix keeps the name from meaning something.
        let name = format!("X{}", random_text(random, NAME_BYTES, length));
        fields.push((name, random_value(random)));
    }
    let all: Vec<u8> = (0..=255).collect();
    let length = random.below(60);
    let content = random_bytes(random, &all, length);
    Meant { method: (*random.choose(&METHODS)).to_owned(), path, query, fields, content }
}

/// Writes the request with all the freedom that the grammar leaves, and adds the field of its framing to what is meant.
fn write(random: &mut Xorshift, meant: &mut Meant) -> Vec<u8> {
    let mut body = Vec::new();
    let framing = if random.one_in(2) {
        body.clone_from(&meant.content);
        ("Content-Length".to_owned(), format!("{}{}", "0".repeat(random.below(3)), body.len()).into_bytes())
    } else {
        write_chunks(random, &meant.content, &mut body);
        ("Transfer-Encoding".to_owned(), random.choose(&["chunked", "Chunked"]).as_bytes().to_vec())
    };
    let at = random.below(meant.fields.len() + 1);
    meant.fields.insert(at, framing);

    let query = meant.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
    let mut input = format!("{} {}{query} HTTP/1.1\r\n", meant.method, meant.path).into_bytes();
    for (name, value) in &meant.fields {
        write_field(random, name, value, &mut input);
    }
    input.extend_from_slice(b"\r\n");
    input.extend_from_slice(&body);
    input
}

fn write_field(random: &mut Xorshift, name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{name}:{}", random.choose(&SPACES)).as_bytes());
    out.extend_from_slice(value);
    out.extend_from_slice(format!("{}\r\n", random.choose(&SPACES)).as_bytes());
}

fn write_chunks(random: &mut Xorshift, content: &[u8], out: &mut Vec<u8>) {
    let mut rest = content;
    while !rest.is_empty() {
        let (data, after) = rest.split_at(1 + random.below(rest.len()));
        let zeros = "0".repeat(random.below(3));
        let digits = if random.one_in(2) { format!("{:x}", data.len()) } else { format!("{:X}", data.len()) };
        out.extend_from_slice(format!("{zeros}{digits}{}\r\n", random.choose(&EXTENSIONS)).as_bytes());
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
        rest = after;
    }
    out.extend_from_slice(format!("{}{}\r\n", "0".repeat(1 + random.below(3)), random.choose(&EXTENSIONS)).as_bytes());
    for _ in 0..random.below(3) {
        let value = random_value(random);
        write_field(random, "X-Trailer", &value, out);
    }
    out.extend_from_slice(b"\r\n");
}

#[test]
fn random_requests_are_read_as_they_were_meant() {
    let mut random = Xorshift::new(0x9e37_79b9_7f4a_7c15);
    for iteration in 0..ITERATIONS {
        let (mut input, mut all_meant) = (Vec::new(), Vec::new());
        for _ in 0..=random.below(3) {
            let mut meant = random_request(&mut random);
            input.extend_from_slice(&write(&mut random, &mut meant));
            all_meant.push(meant);
        }
        let every = 1 + random.below(50);
        let reading = read_once(&RULES, &input, (every..input.len()).step_by(every));
        assert_eq!(reading.outcome, Outcome::IDLE, "{iteration}: {:?}", String::from_utf8_lossy(&input));
        let read: Vec<Meant> = reading
            .requests
            .into_iter()
            .map(|request| Meant {
                method: request.method,
                path: request.path,
                query: request.query,
                fields: request.fields,
                content: request.content,
            })
            .collect();
        assert_eq!(read, all_meant, "{iteration}: {:?}", String::from_utf8_lossy(&input));
    }
}

#[test]
fn our_own_chunks_are_read_as_they_were_written() {
    let data: Vec<u8> = (0..5000_u32).map(|number| (number * 31 % 251) as u8).collect();
    for sizes in [&[1_usize] as &[_], &[15, 16, 17], &[255, 256, 257], &[4095, 4096, 4097], &[0, 5, 0], &[]] {
        let (mut body, mut content) = (Vec::new(), Vec::new());
        for &size in sizes {
            encode_chunk(&mut body, &data[..size]);
            content.extend_from_slice(&data[..size]);
        }
        body.extend_from_slice(LAST_CHUNK);
        assert_eq!(accepted(&format!("chunks of {sizes:?}"), &chunked(body)).content, content);
    }
}
