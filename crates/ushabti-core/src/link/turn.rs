//! Whose turn it is to answer, and who is to be told that nobody waits for the answer any more: what is alike for all that an
//! exchange is answered on.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use super::Exchange;
use crate::alerts::{Alert, Alerts};
use crate::jitter;
use crate::whereabouts::Whereabouts;

/// The number of the exchange that may be answered, and the watcher of its client.
#[derive(Default)]
pub(crate) struct Turn {
    /// Written by the IO task, under the lock of the outbox where a worker may answer at the same time.
    exchange: AtomicU32,
    /// Who is to be told when the client leaves: see [`Turn::watch_client`].
    watched: AtomicU64,
    /// What becomes of the request until a handler has it.
    pub(crate) whereabouts: Whereabouts,
}

impl Turn {
    /// Begins an exchange. IO task, before the request is given away.
    pub(crate) fn begin(&self, alerts: &Alerts) -> Exchange {
        let before = self.now();
        let exchange = self.next();
        if self.watched.load(Ordering::Relaxed) >> 32 == u64::from(before.0) {
            self.watched.store(watch(exchange, 0), Ordering::Relaxed);
        } else {
            // The exchange before was taken back. Its worker may just now have asked to be told.
            tell(self.watched.swap(watch(exchange, 0), Ordering::Relaxed), alerts);
        }
        exchange
    }

    /// Gives the exchange another number, and with that to another owner. IO task.
    pub(crate) fn next(&self) -> Exchange {
        // Only the IO task writes it.
        let number = self.exchange.load(Ordering::Relaxed).wrapping_add(1);
        self.exchange.store(number, Ordering::Relaxed);
        Exchange(number)
    }

    /// The exchange that may be answered now.
    pub(crate) fn now(&self) -> Exchange {
        Exchange(self.exchange.load(Ordering::Relaxed))
    }

    /// Whether it is this one.
    pub(crate) fn is_of(&self, exchange: Exchange) -> bool {
        self.now() == exchange
    }

    /// Has [`Alert::Left`] told with `number` when the client leaves during this exchange, or the exchange is taken back. Any
    /// thread.
    ///
    /// Why it is told, and once: here the number is written, then the state is looked at, with a full fence between; whoever
    /// notes that the client has left, or takes the exchange back, writes that, then looks at the number, with a full fence
    /// between. One of the two sees what the other wrote, and the exchange of the number for 0 gives it to one alone.
    ///
    /// The thread may be so slow that its exchange is over before it comes to write, and the next one is watched already. So
    /// the number stands in one word with the exchange that it was given in, and is written only where that one is found.
    pub(crate) fn watch_client(
        &self,
        exchange: Exchange,
        number: u32,
        alerts: &Alerts,
        is_disconnected: impl FnOnce() -> bool,
    ) {
        let mut before = self.watched.load(Ordering::Relaxed);
        loop {
            if before >> 32 != u64::from(exchange.0) {
                // It was taken back, and the next has begun: nobody waits for the answer any more.
                alerts.tell(Alert::Left(number));
                return;
            }
            jitter::point();
            let wanted = watch(exchange, number);
            match self.watched.compare_exchange_weak(before, wanted, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => break,
                Err(other) => before = other,
            }
        }
        fence(Ordering::SeqCst);
        jitter::point();
        if is_disconnected() {
            self.tell_watcher(alerts);
        } else if !self.is_of(exchange) {
            // It was taken back. Only its own number: the next exchange may be watched already, whose client is there.
            let (own, none) = (watch(exchange, number), watch(exchange, 0));
            if self.watched.compare_exchange(own, none, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                tell(own, alerts);
            }
        }
    }

    /// Nobody waits for the answer any more, which the state or the number of the exchange says already. Any thread.
    pub(crate) fn tell_watcher(&self, alerts: &Alerts) {
        fence(Ordering::SeqCst);
        let number = self.watched.load(Ordering::Relaxed) as u32;
        if number != 0 {
            jitter::point();
            tell(self.watched.fetch_and(!u64::from(u32::MAX), Ordering::Relaxed), alerts);
        }
    }
}

/// Tells what stood in the word, if that was anything.
fn tell(watched: u64, alerts: &Alerts) {
    let number = watched as u32;
    if number != 0 {
        alerts.tell(Alert::Left(number));
    }
}

/// The word that says who is to be told when the client leaves: `number` during `exchange`; 0: nobody.
fn watch(exchange: Exchange, number: u32) -> u64 {
    u64::from(exchange.0) << 32 | u64::from(number)
}
