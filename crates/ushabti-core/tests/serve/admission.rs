//! Requests that wait at gates and too long, deadlines, and clients that leave: each request still has one answer, its own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ushabti_core::routes::Policy;
use ushabti_core::stats::{Reason, Stats};

use crate::churn::Random;
use crate::client::{post, request};
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
    for round in 0..20 {
        client.send(request("/sleep/45").as_bytes());
        assert_eq!(client.answer().status, 504);
        client.send(post("/echo", &format!("round {round}")).as_bytes());
        assert_eq!(client.answer().body, format!("round {round}").as_bytes());
    }
    let stats = running.stop();
    assert_eq!(refusals(&stats, Reason::Deadline), 20);
    assert_eq!((stats.answers[2], stats.answers[5]), (20, 20));
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
