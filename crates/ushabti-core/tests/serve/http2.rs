//! HTTP/2 as an honest client sees it: the same requests and answers, several at once.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::running::{PATIENCE, Running, config};

/// A client with one connection, on a runtime of its own.
pub(crate) struct Client {
    pub(crate) runtime: Runtime,
    sender: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: Response<()>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.head.status().as_u16()
    }
}

pub(crate) async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens in time")
}

impl Client {
    pub(crate) fn connect(running: &Running) -> Self {
        Self::with(running, &Builder::new())
    }

    pub(crate) fn with(running: &Running, builder: &Builder) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (sender, connection) = runtime.block_on(async {
            let stream = TcpStream::connect(running.address).await.expect("the server listens");
            let (sender, connection) = builder.handshake(stream).await.expect("settings are sent");
            (sender, tokio::spawn(connection))
        });
        Self { runtime, sender, connection }
    }

    pub(crate) fn begin(&self, request: Request<()>, is_all: bool) -> (h2::client::ResponseFuture, SendStream<Bytes>) {
        self.runtime.block_on(async {
            let mut sender = in_time(self.sender.clone().ready()).await.expect("the connection is open");
            sender.send_request(request, is_all).expect("a request that can be sent")
        })
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        let (answer, _) = self.begin(get(path), true);
        self.finish(answer).expect("an answer")
    }

    pub(crate) fn finish(&self, answer: h2::client::ResponseFuture) -> Result<Answer, h2::Error> {
        self.runtime.block_on(in_time(async {
            let (head, body) = answer.await?.into_parts();
            Ok(Answer { head: Response::from_parts(head, ()), body: read(body).await? })
        }))
    }

    /// Cuts the connection without a word.
    pub(crate) fn vanish(&self) {
        self.connection.abort();
    }

    /// How the connection ends.
    fn end(self) -> Result<(), h2::Error> {
        let Self { runtime, connection, sender } = self;
        let end = runtime.block_on(in_time(connection)).expect("the connection's task does not panic");
        drop(sender);
        end
    }
}

pub(crate) fn get(path: &str) -> Request<()> {
    Request::get(format!("http://test{path}")).body(()).expect("a valid request")
}

pub(crate) fn post(path: &str) -> Request<()> {
    Request::post(format!("http://test{path}")).body(()).expect("a valid request")
}

async fn read(mut body: RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut all = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        all.extend_from_slice(&piece);
    }
    Ok(all)
}

/// Sends as the windows allow, and ends the stream.
pub(crate) async fn send(stream: &mut SendStream<Bytes>, data: Bytes) -> Result<(), h2::Error> {
    send_part(stream, data).await?;
    stream.send_data(Bytes::new(), true)
}

/// Sends as the windows allow.
pub(crate) async fn send_part(stream: &mut SendStream<Bytes>, mut data: Bytes) -> Result<(), h2::Error> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let Some(room) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await else { break };
        let piece = data.split_to(room?.min(data.len()));
        stream.send_data(piece, false)?;
    }
    Ok(())
}

#[test]
fn requests_are_answered_one_after_the_other_and_side_by_side() {
    let running = Running::start(config(), 4);
    let client = Client::connect(&running);
    let answer = client.get("/bytes/5");
    assert_eq!((answer.status(), answer.body.as_slice()), (200, b"xxxxx".as_slice()));
    assert_eq!(answer.head.headers()["content-length"], "5");
    assert!(answer.head.headers().contains_key("date"));
    let all: Vec<_> = (0..100).map(|count| client.begin(get(&format!("/bytes/{count}")), true).0).collect();
    for (count, answer) in all.into_iter().enumerate() {
        assert_eq!(client.finish(answer).expect("an answer").body.len(), count);
    }
    drop(client);
    running.stop();
}

#[test]
fn an_answer_of_any_size_comes_whole_and_does_not_hold_up_others() {
    let running = Running::start(config(), 2);
    // The window of the connection has room for others than the one that is not read.
    let client = Client::with(&running, Builder::new().initial_connection_window_size(1 << 20));
    let (large, _) = client.begin(get("/bytes/3000000"), true);
    assert_eq!(client.get("/bytes/1").body, b"x");
    assert_eq!(client.finish(large).expect("an answer").body.len(), 3_000_000);
    let (stream, _) = client.begin(get("/stream/40"), true);
    let answer = client.finish(stream).expect("an answer");
    assert_eq!(answer.body.len(), 40 * 64 * 1024);
    assert!(!answer.head.headers().contains_key("content-length"), "its length was not known");
    drop(client);
    running.stop();
}

#[test]
fn a_body_is_read_whole_beyond_any_window() {
    let mut config = config();
    config.body_bytes_max = 8 << 20;
    let running = Running::start(config, 1);
    let client = Client::connect(&running);
    let sent = Bytes::from((0..6_000_000_u32).map(|at| at as u8).collect::<Vec<_>>());
    let (answer, mut stream) = client.begin(post("/echo"), false);
    client.runtime.block_on(in_time(send(&mut stream, sent.clone()))).expect("the server takes it");
    assert_eq!(client.finish(answer).expect("an answer").body, sent);
    drop(client);
    running.stop();
}

#[test]
fn bodies_that_come_side_by_side_come_whole() {
    let mut config = config();
    config.body_bytes_max = 8 << 20;
    let running = Running::start(config, 2);
    let client = Client::connect(&running);
    let sent = Bytes::from((0..4_000_000_u32).map(|at| at as u8).collect::<Vec<_>>());
    let mut length = post("/echo");
    length.headers_mut().insert("content-length", sent.len().into());
    let (answers, streams): (Vec<_>, Vec<_>) = (0..8).map(|_| client.begin(length.clone(), false)).unzip();
    for mut stream in streams {
        let sent = sent.clone();
        client.runtime.spawn(async move { send(&mut stream, sent).await.expect("the server takes it") });
    }
    // They are read together, or one that is not read would keep the window from the others.
    let all: Vec<_> = answers
        .into_iter()
        .map(|answer| client.runtime.spawn(async move { read(answer.await.expect("an answer").into_body()).await }))
        .collect();
    for body in all {
        let body = client.runtime.block_on(in_time(body)).expect("no panic").expect("a whole body");
        assert!(body == sent);
    }
    drop(client);
    running.stop();
}

#[test]
fn a_body_that_is_too_large_is_answered_413_whether_it_says_so_or_not() {
    let mut config = config();
    config.body_bytes_max = 1000;
    let running = Running::start(config, 1);
    let client = Client::connect(&running);
    let mut said = post("/echo");
    said.headers_mut().insert("content-length", "1001".parse().expect("a value"));
    let (answer, stream) = client.begin(said, false);
    assert_eq!(client.finish(answer).expect("an answer").status(), 413);
    drop(stream);
    let (answer, mut stream) = client.begin(post("/echo"), false);
    client.runtime.block_on(in_time(send(&mut stream, vec![0; 1001].into()))).expect("the server takes it");
    assert_eq!(client.finish(answer).expect("an answer").status(), 413);
    assert_eq!(client.get("/bytes/1").status(), 200, "the connection goes on");
    drop(client);
    running.stop();
}

#[test]
fn heads_beyond_the_limits_are_refused_and_the_connection_goes_on() {
    let running = Running::start(config(), 1);
    let client = Client::connect(&running);
    let long = format!("/{}", "a".repeat(9000));
    assert_eq!(client.get(&long).status(), 414);
    let mut large = get("/bytes/1");
    large.headers_mut().insert("x-large", "b".repeat(17_000).parse().expect("a value"));
    let (answer, _) = client.begin(large, true);
    assert_eq!(client.finish(answer).expect("an answer").status(), 431);
    let mut many = get("/bytes/1");
    for number in 0..70 {
        many.headers_mut().insert(http::HeaderName::try_from(format!("x-{number}")).expect("a name"), 1.into());
    }
    let (answer, _) = client.begin(many, true);
    assert_eq!(client.finish(answer).expect("an answer").status(), 431);
    assert_eq!(client.get("/bytes/1").status(), 200);
    drop(client);
    running.stop();
}

#[test]
fn an_answer_to_head_has_no_body() {
    let running = Running::start(config(), 1);
    let client = Client::connect(&running);
    let request = Request::head("http://test/bytes/5").body(()).expect("a valid request");
    let (answer, _) = client.begin(request, true);
    let answer = client.finish(answer).expect("an answer");
    assert_eq!((answer.head.headers()["content-length"].as_bytes(), answer.body.len()), (b"5".as_slice(), 0));
    // Nor has that to one whose head is no good.
    let request = Request::head("http://test/bytes/5").header("host", "other").body(()).expect("a valid request");
    let (answer, _) = client.begin(request, true);
    let answer = client.finish(answer).expect("an answer");
    assert_eq!((answer.status(), answer.body.len()), (400, 0));
    assert_ne!(answer.head.headers()["content-length"], "0");
    drop(client);
    running.stop();
}

#[test]
fn a_stream_that_is_reset_is_a_client_that_left_and_the_others_go_on() {
    let running = Running::start(config(), 2);
    let client = Client::connect(&running);
    let (answer, mut stream) = client.begin(get("/gate"), true);
    running.gate.wait_for(1);
    stream.send_reset(Reason::CANCEL);
    drop(answer);
    assert_eq!(client.get("/bytes/1").status(), 200);
    running.gate.open();
    running.wait_until("its answer is thrown away", |stats| stats.answers[0] == 1);
    drop(client);
    running.stop();
}

#[test]
fn a_request_that_nobody_answers_is_answered_500() {
    let running = Running::start(config(), 1);
    let client = Client::connect(&running);
    assert_eq!(client.get("/drop").status(), 500);
    assert_eq!(client.get("/elsewhere").body, b"from elsewhere");
    drop(client);
    running.stop();
}

#[test]
fn late_requests_are_answered_in_the_place_of_their_workers() {
    let mut config = config();
    config.deadline = Some(Duration::from_millis(300));
    config.queue_timeout = Some(Duration::from_millis(200));
    let running = Running::start(config, 1);
    let client = Client::connect(&running);
    let (late, _) = client.begin(get("/gate"), true);
    running.gate.wait_for(1);
    let (waiting, _) = client.begin(get("/bytes/1"), true);
    assert_eq!(client.finish(waiting).expect("an answer").status(), 503);
    assert_eq!(client.finish(late).expect("an answer").status(), 504);
    running.gate.open();
    assert_eq!(client.get("/bytes/1").status(), 200);
    drop(client);
    running.stop();
}

#[test]
fn a_full_queue_is_answered_503() {
    let mut config = config();
    config.queue_max = 1;
    let running = Running::start(config, 1);
    let client = Client::connect(&running);
    let (first, _) = client.begin(get("/gate"), true);
    running.gate.wait_for(1);
    let (second, _) = client.begin(get("/bytes/1"), true);
    running.wait_until("the second waits", |stats| stats.dispatched == 2);
    assert_eq!(client.get("/bytes/1").status(), 503);
    running.gate.open();
    for answer in [first, second] {
        assert_eq!(client.finish(answer).expect("an answer").status(), 200);
    }
    drop(client);
    running.stop();
}

#[test]
fn a_stream_that_is_reset_while_it_waits_leaves_its_room_to_others() {
    let mut config = config();
    config.queue_max = 1;
    let running = Running::start(config, 1);
    let client = Client::connect(&running);
    let (first, _) = client.begin(get("/gate"), true);
    running.gate.wait_for(1);
    for round in 1..=20 {
        let (answer, mut stream) = client.begin(get("/bytes/1"), true);
        running.wait_until("it waits", |stats| stats.dispatched == 1 + round);
        stream.send_reset(Reason::CANCEL);
        drop(answer);
        running.wait_until("it was noted", |stats| stats.abandoned == round);
        assert_eq!(running.waiting(), 0);
    }
    let (second, _) = client.begin(get("/bytes/1"), true);
    running.wait_until("it waits", |stats| stats.dispatched == 22);
    assert_eq!(client.get("/bytes/1").status(), 503);
    running.gate.open();
    for answer in [first, second] {
        assert_eq!(client.finish(answer).expect("an answer").status(), 200);
    }
    drop(client);
    running.stop();
}

#[test]
fn a_server_that_stops_finishes_what_it_has_begun_and_says_goodbye() {
    let running = Running::start(config(), 2);
    let client = Client::connect(&running);
    let (answer, _) = client.begin(get("/gate"), true);
    running.gate.wait_for(1);
    running.server.drain();
    running.gate.open();
    assert_eq!(client.finish(answer).expect("an answer").body, b"passed");
    client.end().expect("a good end");
    running.stop();
}

#[test]
fn a_connection_that_rests_is_told_to_go() {
    let mut config = config();
    config.keep_alive = Duration::from_millis(300);
    let running = Running::start(config, 1);
    let client = Client::connect(&running);
    assert_eq!(client.get("/sleep/600").status(), 200, "a handler that takes longer is no rest");
    client.end().expect("a good end");
    running.stop();
}

#[test]
fn a_body_that_stops_is_answered_408() {
    let mut config = config();
    config.body_timeout = Duration::from_millis(300);
    let running = Running::start(config, 1);
    let client = Client::connect(&running);
    let (answer, stream) = client.begin(post("/echo"), false);
    assert_eq!(client.finish(answer).expect("an answer").status(), 408);
    drop(stream);
    assert_eq!(client.get("/bytes/1").status(), 200);
    drop(client);
    running.stop();
}

#[test]
fn a_client_that_gives_no_window_loses_the_stream_and_the_worker_is_let_go() {
    let mut config = config();
    config.write_timeout = Duration::from_millis(300);
    let running = Running::start(config, 1);
    let client = Client::connect(&running);
    for path in ["/stream/100", "/bytes/3000000"] {
        let (answer, _) = client.begin(get(path), true);
        let body = client.runtime.block_on(in_time(answer)).expect("the head has no window").into_body();
        let reset = client.runtime.block_on(in_time(async {
            let mut body = body;
            loop {
                match body.data().await {
                    Some(Ok(_)) => {}
                    other => break other,
                }
            }
        }));
        assert_eq!(reset.expect("not the end").expect_err("a reset").reason(), Some(Reason::CANCEL));
    }
    assert_eq!(client.get("/bytes/1").status(), 200, "the worker is free");
    drop(client);
    running.stop();
}

#[test]
fn a_client_that_waits_for_100_gets_it_before_it_sends() {
    let running = Running::start(config(), 1);
    let client = Client::connect(&running);
    let mut request = post("/echo");
    request.headers_mut().insert("expect", "100-continue".parse().expect("a value"));
    let (mut answer, mut stream) = client.begin(request, false);
    let interim = client.runtime.block_on(in_time(std::future::poll_fn(|cx| answer.poll_informational(cx))));
    assert_eq!(interim.expect("an interim answer").expect("no error").status(), 100);
    client.runtime.block_on(in_time(send(&mut stream, "body".into()))).expect("the server takes it");
    assert_eq!(client.finish(answer).expect("an answer").body, b"body");
    drop(client);
    running.stop();
}

#[test]
fn a_client_that_waits_is_refused_before_it_sends() {
    let running = Running::start(config(), 1);
    let client = Client::connect(&running);
    for (expectation, host, status) in [("tea", None, 417), ("100-continue", Some("other"), 400)] {
        let mut request = post("/echo");
        request.headers_mut().insert("expect", expectation.parse().expect("a value"));
        if let Some(host) = host {
            request.headers_mut().insert("host", host.parse().expect("a value"));
        }
        let (answer, stream) = client.begin(request, false);
        assert_eq!(client.finish(answer).expect("an answer").status(), status);
        drop(stream);
    }
    drop(client);
    running.stop();
}

#[test]
fn nothing_is_kept_of_a_connection_that_has_ended() {
    let running = Running::start(config(), 4);
    // Every connection that is kept refers to its server.
    let kept = || Arc::strong_count(running.server.shared());
    // The server has all its threads and tasks by then.
    assert_eq!(running.connect().get("/bytes/1").status, 200);
    running.wait_until("it is over", |stats| stats.connections_open == 0);
    let before = kept();
    for round in 1..4 {
        let client = Client::connect(&running);
        assert_eq!(client.get("/bytes/100000").status(), 200);
        let held: Vec<_> = (0..3).map(|_| client.begin(get("/gate"), true)).collect();
        running.wait_until("they are given to workers", |stats| stats.dispatched == round * 4 + 1);
        running.gate.open();
        drop((held, client));
        running.wait_until("nothing is kept", |stats| stats.connections_open == 0 && kept() <= before);
    }
    let shared = Arc::downgrade(running.server.shared());
    running.stop();
    assert_eq!(shared.strong_count(), 0);
}
