//! HTTP/2: requests that are answered before their body has come.

use crate::frames::{DATA, Frame, HEADERS, RST_STREAM, Raw, WINDOW_UPDATE, begin_post, connect, frame, get};
use crate::running::{Running, config};

const NO_ERROR: u32 = 0;
const END_STREAM: u8 = 1;

/// A server that takes bodies of a thousand bytes.
fn running() -> Running {
    let mut config = config();
    config.body_bytes_max = 1000;
    Running::start(config, 1)
}

/// Sends more than that on a stream.
fn post_too_much(client: &mut Raw, stream: u32) {
    client.send(&[begin_post(stream, "/echo"), frame(DATA, 0, stream, &[b'x'; 1001])].concat());
}

/// What the server sends up to the end of an answer.
fn up_to_answer(client: &mut Raw, stream: u32) -> Vec<Frame> {
    let mut frames = Vec::new();
    loop {
        let frame = client.next().expect("the connection goes on");
        let is_end = frame.stream == stream && frame.kind != RST_STREAM && frame.flags & END_STREAM != 0;
        frames.push(frame);
        if is_end {
            return frames;
        }
    }
}

fn resets(frames: &[Frame]) -> Vec<u32> {
    frames.iter().filter(|frame| frame.kind == RST_STREAM).map(|frame| frame.stream).collect()
}

#[test]
fn the_client_may_read_the_answer_before_it_is_told_to_stop() {
    let running = running();
    let mut client = Raw::open(&running);
    post_too_much(&mut client, 1);
    let mut frames = up_to_answer(&mut client, 1);
    // It has not looked yet. What it sends is thrown away, and the window is not opened for more.
    client.send(&(0..4).flat_map(|_| frame(DATA, 0, 1, &[b'x'; 16_000])).collect::<Vec<_>>());
    client.send(&get(3, "/bytes/1"));
    frames.extend(up_to_answer(&mut client, 3));
    assert!(frames.iter().any(|frame| frame.kind == HEADERS && frame.stream == 1));
    assert_eq!(resets(&frames), [0; 0]);
    let told = loop {
        let frame = client.next().expect("the connection goes on");
        assert!(frame.kind != WINDOW_UPDATE || frame.stream != 1, "it is asked for more");
        if frame.kind == RST_STREAM {
            break frame;
        }
    };
    assert_eq!((told.stream, told.code()), (1, NO_ERROR));
    client.send(&get(5, "/bytes/1"));
    assert_eq!(resets(&up_to_answer(&mut client, 5)), [0; 0]);
    drop(client);
    running.stop();
}

#[test]
fn who_is_refused_a_websocket_may_read_why() {
    let running = running();
    let mut client = Raw::open(&running);
    client.send(&connect(1, "/nowhere"));
    let mut frames = up_to_answer(&mut client, 1);
    client.send(&get(3, "/bytes/1"));
    frames.extend(up_to_answer(&mut client, 3));
    assert_eq!(resets(&frames), [0; 0]);
    drop(client);
    running.stop();
}

#[test]
fn a_client_that_ends_its_side_is_not_told_to_stop() {
    let running = running();
    let mut client = Raw::open(&running);
    post_too_much(&mut client, 1);
    up_to_answer(&mut client, 1);
    client.send(&frame(DATA, END_STREAM, 1, b"the end"));
    // Told to stop after this one: if the first were told at all, it would be before.
    post_too_much(&mut client, 3);
    assert_eq!(client.wait_for(RST_STREAM).stream, 3);
    drop(client);
    running.stop();
}

#[test]
fn those_that_were_answered_first_make_room_for_others() {
    let running = running();
    let mut client = Raw::open(&running);
    let mut frames = Vec::new();
    for stream in (1..=17).step_by(2) {
        post_too_much(&mut client, stream);
        frames.extend(up_to_answer(&mut client, stream));
    }
    client.catch_up_into(&mut frames);
    assert_eq!(resets(&frames), [1]);
    drop(client);
    running.stop();
}
