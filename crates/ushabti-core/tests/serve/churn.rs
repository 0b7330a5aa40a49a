//! Thousands of connections that come and go at random, while workers take random times.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::client::{Client, post, request};
use crate::running::{Running, config};

const THREADS: u64 = 4;
const CONNECTIONS: u64 = 600;

/// Marsaglia's xorshift: the same numbers in every run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

#[test]
fn the_books_balance_after_thousands_of_random_ends() {
    let running = Running::start(config(), 6);
    let answered = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (running, answered) = (&running, &answered);
            scope.spawn(move || {
                let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ (thread + 1));
                for _ in 0..CONNECTIONS {
                    let count = live(running.connect(), &mut random);
                    answered.fetch_add(count, Ordering::Relaxed);
                }
            });
        }
    });
    running.wait_until("every connection has ended", |stats| {
        stats.connections_accepted == THREADS * CONNECTIONS && stats.connections_open == 0
    });
    let stats = running.stop();
    assert!(stats.answers[2] >= answered.load(Ordering::Relaxed), "{stats:?}");
    // Some were refused that had left already.
    let told: u64 = stats.answers[3..].iter().sum();
    assert!((told..=told + stats.answers[0]).contains(&stats.refused), "{stats:?}");
}

/// The life of one connection; returns how many answers it has received.
fn live(mut client: Client, random: &mut Random) -> u64 {
    let mut answered = 0;
    for _ in 0..random.below(4) {
        let text = match random.below(6) {
            0 => request("/sleep/1"),
            1 => request("/elsewhere"),
            2 => request("/bytes/300000"),
            3 => request("/bytes/3") + &request("/bytes/4"),
            _ => post("/echo", "some text"),
        };
        let whole = random.below(8) > 0;
        let sent = if whole { text.len() } else { random.below(text.len() as u64) as usize };
        client.send(&text.as_bytes()[..sent]);
        if !whole {
            break;
        }
        // Now and then the client does not wait for its answer.
        if random.below(5) == 0 {
            break;
        }
        for _ in 0..text.matches("HTTP/1.1\r\n").count() {
            assert_eq!(client.answer().status, 200);
            answered += 1;
        }
    }
    match random.below(3) {
        0 => client.vanish(),
        1 => client.end_of_sending(),
        _ => {}
    }
    answered
}
