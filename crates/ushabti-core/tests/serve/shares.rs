//! What the streams of one HTTP/2 connection may hold and hold up together.

use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::Reason;
use h2::client::Builder;

use crate::frames::{DATA, HEADERS, RST_STREAM, Raw, SETTINGS, WINDOW_UPDATE, frame, get as get_frame};
use crate::http2::{Client, get, in_time, post, send_part};
use crate::running::{Running, config};

/// Bytes that come before a client's windows are used up (RFC 9113 section 6.9.2).
const WINDOW: usize = 65_535;

/// Begins so many bodies of nearly the greatest size before it ends one of them. Their statuses, and whether they were to go on.
fn upload_together(count: usize) -> Vec<(u16, bool)> {
    let mut config = config();
    config.body_bytes_max = 100_000;
    let running = Running::start(config, 1);
    let client = Client::connect(&running);
    let mut streams: Vec<_> = (0..count).map(|_| client.begin(post("/bytes/1"), false)).collect();
    for (_, stream) in &mut streams {
        // A stream that was refused takes no more.
        let _ = client.runtime.block_on(in_time(send_part(stream, Bytes::from(vec![b'x'; 90_000]))));
    }
    let statuses = streams
        .into_iter()
        .filter_map(|(answer, mut stream)| {
            let is_open = stream.send_data(Bytes::new(), true).is_ok();
            client.finish(answer).ok().map(|answer| (answer.status(), is_open))
        })
        .collect();
    assert_eq!(client.get("/bytes/1").status(), 200, "nothing is held any more");
    drop(client);
    running.stop();
    statuses
}

#[test]
fn bodies_of_one_connection_wait_for_each_other() {
    // Five of the greatest are let in; the others come when these have been answered.
    assert_eq!(upload_together(12), vec![(200, true); 12]);
}

#[test]
fn bodies_of_one_connection_are_bounded_together() {
    let statuses = upload_together(30);
    let count = |wanted| statuses.iter().filter(|(status, _)| *status == wanted).count();
    assert!(count(200) >= 12, "{statuses:?}");
    assert!(count(503) >= 1, "{statuses:?}");
}

#[test]
fn who_takes_a_byte_now_and_then_is_cut() {
    let mut config = config();
    config.write_timeout = Duration::from_millis(300);
    config.rate_min = 1000;
    let running = Running::start(config, 1);
    let mut client = Raw::open(&running);
    client.send(&get_frame(1, "/stream/100"));
    let began = Instant::now();
    let mut taken = 0;
    let mut reader = client.reader();
    std::thread::scope(|scope| {
        let reset = scope.spawn(move || {
            loop {
                match reader.next() {
                    Some(frame) if frame.kind == DATA => taken += frame.payload.len(),
                    Some(frame) if frame.kind == RST_STREAM => return taken,
                    Some(_) => {}
                    None => panic!("the connection has ended"),
                }
            }
        });
        // A byte each tenth of a second: it never rests, and would have the worker for ever.
        while !reset.is_finished() {
            assert!(began.elapsed() < Duration::from_secs(8), "it goes on and on");
            client.send(&frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]));
            client.send(&frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]));
            std::thread::sleep(Duration::from_millis(100));
        }
        let taken = reset.join().expect("it is reset");
        assert!((WINDOW..WINDOW + 100).contains(&taken), "{taken}");
    });
    running.stop();
}

#[test]
fn streams_that_wait_for_their_turn_are_in_no_fault() {
    let mut config = config();
    config.write_timeout = Duration::from_millis(400);
    config.rate_min = 1000;
    let running = Running::start(config, 4);
    let mut client = Raw::open(&running);
    // Each stream has all the window that it can use, and the connection little, which all of them share.
    client.send(&frame(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]));
    let streams = 20;
    for number in 0..streams {
        client.send(&get_frame(2 * number + 1, "/bytes/40000"));
    }
    let (mut ends, mut owed) = (0, 0);
    let began = Instant::now();
    while ends < streams {
        let frame_ = client.next().expect("the connection goes on");
        match frame_.kind {
            DATA => {
                owed += frame_.payload.len() as u32;
                ends += u32::from(frame_.flags & 1);
            }
            RST_STREAM => panic!("stream {} was reset after {:?}", frame_.stream, began.elapsed()),
            _ => {}
        }
        if owed >= 8_000 {
            // So that the last of them waits for much longer than the write timeout.
            std::thread::sleep(Duration::from_millis(20));
            client.send(&frame(WINDOW_UPDATE, 0, 0, &owed.to_be_bytes()));
            owed = 0;
        }
    }
    assert!(began.elapsed() > Duration::from_millis(800), "{:?}: nobody had to wait", began.elapsed());
    drop(client);
    running.stop();
}

#[test]
fn who_goes_on_asking_a_server_that_stops_is_refused() {
    let running = Running::start(config(), 2);
    let mut client = Raw::open(&running);
    client.send(&get_frame(1, "/bytes/1"));
    assert_eq!(client.wait_for(HEADERS).stream, 1);
    running.server.drain();
    // It does not confirm that it has heard, and asks on.
    let began = Instant::now();
    for number in 1.. {
        assert!(began.elapsed() < Duration::from_secs(8), "it is served on and on");
        client.send(&get_frame(2 * number + 1, "/bytes/1"));
        let frame = loop {
            let frame = client.next().expect("the connection has not ended");
            if matches!(frame.kind, HEADERS | RST_STREAM) {
                break frame;
            }
        };
        if frame.kind == RST_STREAM {
            assert_eq!(frame.code(), 7, "REFUSED_STREAM: it may ask elsewhere");
            drop(client);
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    running.stop();
}

#[test]
fn an_answer_larger_than_all_windows_leaves_room_for_others() {
    let running = Running::start(config(), 2);
    let client = Client::with(&running, Builder::new().initial_connection_window_size(1 << 20));
    let (large, _) = client.begin(get("/bytes/30000000"), true);
    let head = client.runtime.block_on(in_time(large)).expect("its head");
    // Its body is not read, and the windows of the stream are used up.
    assert_eq!(client.get("/bytes/1000").body.len(), 1000);
    drop(head);
    let (other, mut stream) = client.begin(post("/echo"), false);
    stream.send_reset(Reason::CANCEL);
    drop(other);
    assert_eq!(client.get("/bytes/1").status(), 200);
    drop(client);
    running.stop();
}
