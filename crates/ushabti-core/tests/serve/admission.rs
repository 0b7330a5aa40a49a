//! Requests that wait at gates and too long, deadlines, and clients that leave: each request still has one answer, its own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ushabti_core::config::Config;
use ushabti_core::routes::Policy;
use ushabti_core::stats::{Reason, Stats};

use crate::churn::Random;
use crate::client::{Client, post, request};
use crate::running::{Running, config};

fn refusals(stats: &Stats, reason: Reason) -> u64 {
    let at = Reason::ALL.iter().position(|one| *one == reason).expect("all are there");
    stats.refusals[at]
}

#[test]
fn a_late_answer_is_no_answer_to_what_is_asked_next() {
    let policy = Policy { deadline: Some(Duration::from_millis(30)), ..Policy::default() };
    let running = Running::start_with(config(), &policy, 4);
    let mut client = running.connect();
    let (mut in_time, mut late, mut in_a_row) = (0, 0, 0);
    // On a busy machine the clock may be late for what sleeps, and the worker for the echo: each is answered as itself.
    for round in 0..1000 {
        if in_a_row == 20 {
            break;
        }
        let (text, echo) = (request("/sleep/45"), format!("round {round}"));
        let statuses = [(text, "slept"), (post("/echo", &echo), &*echo)].map(|(text, body)| {
            client.send(text.as_bytes());
            let answer = client.answer();
            match answer.status {
                200 => in_time += 1,
                status => late += u64::from(status == 504),
            }
            assert!(answer.status == 504 || answer.body == body.as_bytes(), "{answer:?}");
            answer.status
        });
        // A late answer, and the one to what was asked next.
        in_a_row += u64::from(statuses == [504, 200]);
    }
    assert_eq!(in_a_row, 20);
    let stats = running.stop();
    assert_eq!(refusals(&stats, Reason::Deadline), late);
    assert_eq!((stats.answers[2], stats.answers[5]), (in_time, late));
}

#[test]
fn who_waits_at_a_gate_holds_no_worker() {
    let policy = Policy { concurrency: Some(1), ..Policy::default() };
    let running = Running::start_with(config(), &policy, 3);
    let mut clients: Vec<_> = (0..4).map(|_| running.connect()).collect();
    for client in &mut clients {
        client.send(request("/gate").as_bytes());
    }
    running.gate.wait_for(1);
    running.wait_until("all were given away", |stats| stats.dispatched == 4);
    assert_eq!(running.server.shared().waiting_at_gates(), 3);
    running.gate.open();
    for client in &mut clients {
        assert_eq!(client.answer().body, b"passed");
    }
    running.stop();
}

#[test]
fn who_waits_at_a_gate_when_the_server_is_closed_is_counted() {
    let policy = Policy { concurrency: Some(1), ..Policy::default() };
    let running = Running::start_with(config(), &policy, 1);
    let mut clients: Vec<_> = (0..4).map(|_| running.connect()).collect();
    for client in &mut clients {
        client.send(request("/gate").as_bytes());
    }
    running.gate.wait_for(1);
    running.wait_until("all were given away", |stats| stats.dispatched == 4);
    assert_eq!(running.server.close(), 3);
    running.gate.open();
}

/// A server whose only worker is held, with room for two that wait.
fn held(change: impl FnOnce(&mut Config), policy: &Policy) -> (Running, Client) {
    let mut config = config();
    config.queue_max = 2;
    change(&mut config);
    let running = Running::start_with(config, policy, 1);
    let mut first = running.connect();
    first.send(request("/gate").as_bytes());
    running.gate.wait_for(1);
    // The worker may have come to it sooner than it was counted.
    running.wait_until("it was given away", |stats| stats.dispatched == 1);
    (running, first)
}

/// Two clients ask, and wait.
fn waiting(running: &Running) -> Vec<Client> {
    let before = running.stats().dispatched;
    let mut clients: Vec<_> = (0..2).map(|_| running.connect()).collect();
    for client in &mut clients {
        client.send(post("/echo", "waits").as_bytes());
    }
    running.wait_until("both were given away", |stats| stats.dispatched == before + 2);
    clients
}

/// Nobody waits, though the worker has not come by: there is room for two, and for no more.
fn assert_there_is_room(running: &Running, first: &mut Client) {
    assert_eq!(running.waiting(), 0);
    let mut others = waiting(running);
    assert_eq!(running.waiting(), 2);
    assert_eq!(running.connect().get("/echo").status, 503);
    running.gate.open();
    for client in &mut others {
        assert_eq!(client.answer().body, b"waits");
    }
    assert_eq!(first.answer().body, b"passed");
}

#[test]
fn who_leaves_while_it_waits_leaves_its_room_to_others() {
    for is_reset in [true, false] {
        let (running, mut first) = held(|_| {}, &Policy::default());
        for round in 1..=20 {
            for client in waiting(&running) {
                if is_reset {
                    client.vanish();
                }
            }
            // At once, not when a worker comes by. A close is only known to be one when the client has been asked.
            running.wait_until("both were noted", |stats| stats.abandoned == 2 * round);
            running.wait_until("nothing is left of them", |stats| stats.connections_open == 1);
            if !is_reset {
                break;
            }
        }
        assert_there_is_room(&running, &mut first);
        let stats = running.stop();
        assert_eq!(stats.answers[0], stats.abandoned, "{stats:?}");
    }
}

#[test]
fn who_was_told_that_it_waits_too_long_leaves_its_room_to_others() {
    let (running, mut first) =
        held(|config| config.queue_timeout = Some(Duration::from_millis(50)), &Policy::default());
    for round in 1..=3 {
        let mut late = waiting(&running);
        for client in &mut late {
            assert_eq!(client.answer().status, 503);
        }
        assert_eq!(running.waiting(), 0);
        // The connections go on: what is asked next on one of them waits in its own right.
        late[0].send(request("/echo").as_bytes());
        running.wait_until("it was given away", |stats| stats.dispatched == 1 + 3 * round);
        assert_eq!(late[0].answer().status, 503);
    }
    running.gate.open();
    assert_eq!(first.answer().body, b"passed");
    let stats = running.stop();
    assert_eq!((refusals(&stats, Reason::QueueTimeout), refusals(&stats, Reason::QueueFull)), (9, 0));
    assert_eq!((stats.answers[5], stats.abandoned), (9, 0));
}

#[test]
fn who_was_told_that_its_answer_is_late_leaves_its_room_to_others() {
    let policy = Policy { deadline: Some(Duration::from_millis(100)), ..Policy::default() };
    let (running, mut first) = held(|_| {}, &policy);
    assert_eq!(first.answer().status, 504);
    for _ in 0..3 {
        for client in &mut waiting(&running) {
            assert_eq!(client.answer().status, 504);
        }
        assert_eq!(running.waiting(), 0);
    }
    running.gate.open();
    let stats = running.stop();
    assert_eq!((refusals(&stats, Reason::Deadline), refusals(&stats, Reason::QueueFull)), (7, 0));
}

#[test]
fn who_leaves_the_line_at_a_gate_does_not_wait_there() {
    let policy = Policy { concurrency: Some(1), queue: Some(2), ..Policy::default() };
    let (running, mut first) = held(|_| {}, &policy);
    for round in 1..=20 {
        for client in waiting(&running) {
            client.vanish();
        }
        running.wait_until("both were noted", |stats| stats.abandoned == 2 * round);
        assert_eq!(running.server.shared().waiting_at_gates(), 0);
    }
    let mut others = waiting(&running);
    assert_eq!(running.server.shared().waiting_at_gates(), 2);
    assert_eq!(running.connect().get("/echo").status, 503);
    running.gate.open();
    assert_eq!(first.answer().body, b"passed");
    for client in &mut others {
        assert_eq!(client.answer().body, b"waits");
    }
    running.stop();
}

#[test]
fn a_body_that_trickles_is_answered_408() {
    let mut config = config();
    config.body_timeout = Duration::from_millis(200);
    config.rate_min = 1000;
    let running = Running::start(config, 1);
    let mut client = running.connect();
    client.send(b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\n");
    // No silence is as long as the timeout; but it takes long.
    let trickle = std::thread::spawn({
        let mut stream = client.stream.try_clone().expect("a descriptor");
        move || {
            for _ in 0..200 {
                std::thread::sleep(Duration::from_millis(50));
                if std::io::Write::write_all(&mut stream, b"x").is_err() {
                    return;
                }
            }
        }
    });
    assert_eq!(client.answer().status, 408);
    drop(client);
    trickle.join().expect("it does not panic");
    running.stop();
}

#[test]
fn a_reader_that_trickles_is_cut() {
    let mut config = config();
    config.write_timeout = Duration::from_millis(200);
    config.rate_min = 100_000_000;
    let running = Running::start(config, 1);
    let mut client = running.connect();
    client.send(request("/bytes/30000000").as_bytes());
    let mut piece = vec![0; 64 * 1024];
    // It always takes some, and is far too slow for what is asked here.
    while std::io::Read::read(&mut client.stream, &mut piece).is_ok_and(|count| count > 0) {
        std::thread::sleep(Duration::from_millis(20));
    }
    running.wait_until("it was cut", |stats| stats.connections_open == 0);
    running.stop();
}

#[test]
fn the_books_balance_when_everything_is_late() {
    const THREADS: u64 = 8;
    const CONNECTIONS: u64 = 40;
    let mut config = config();
    config.queue_timeout = Some(Duration::from_millis(20));
    config.queue_max = 6;
    let policy = Policy { deadline: Some(Duration::from_millis(40)), concurrency: Some(3), ..Policy::default() };
    let running = Running::start_with(config, &policy, 4);
    let answered = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (running, answered) = (&running, &answered);
            scope.spawn(move || {
                let mut random = Random(0x2545_f491_4f6c_dd1d ^ (thread + 1));
                for _ in 0..CONNECTIONS {
                    let mut client = running.connect();
                    for number in 0..random.below(5) {
                        let body = format!("{thread} {number} {}", random.below(1_000_000));
                        let text = match random.below(4) {
                            0 => request("/sleep/30"),
                            1 => request("/sleep/60"),
                            _ => post("/echo", &body),
                        };
                        client.send(text.as_bytes());
                        if random.below(8) == 0 {
                            break;
                        }
                        let answer = client.answer();
                        answered.fetch_add(1, Ordering::Relaxed);
                        match answer.status {
                            200 => assert!(answer.body == b"slept" || answer.body == body.as_bytes(), "{answer:?}"),
                            status => assert!(matches!(status, 503 | 504), "{answer:?}"),
                        }
                    }
                    match random.below(3) {
                        0 => client.vanish(),
                        1 => client.end_of_sending(),
                        _ => {}
                    }
                }
            });
        }
    });
    running.wait_until("every connection has ended", |stats| {
        stats.connections_accepted == THREADS * CONNECTIONS && stats.connections_open == 0
    });
    let stats = running.stop();
    assert!(stats.answers.iter().sum::<u64>() >= answered.load(Ordering::Relaxed), "{stats:?}");
    let late = [Reason::Deadline, Reason::QueueTimeout, Reason::QueueFull].map(|reason| refusals(&stats, reason));
    // Some of them to clients that had left.
    let sum: u64 = late.iter().sum();
    assert!((stats.answers[5]..=stats.answers[5] + stats.answers[0]).contains(&sum), "{stats:?}");
    assert!(late.iter().all(|count| *count > 0), "all of it happens: {stats:?}");
}
