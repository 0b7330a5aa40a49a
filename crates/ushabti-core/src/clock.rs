//! The deadlines of all connections, on the IO thread.
//!
//! A timer of its own for each connection would cost more memory than the rest of an idle one, and be reset at every
//! request. So deadlines are kept in slots of a hundredth of a second, and are looked at when their slot comes due: a
//! connection that has moved on is put back into the slot of its present deadline. A keep-alive request costs
//! nothing here.
//!
//! Accuracy is one slot, and a tenth of a second where the time is two seconds or longer: thousands of connections that rest
//! shall not wake the thread more often than that.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use slab::Slab;
use tokio::sync::Notify;

use crate::channel::Channel;
use crate::link::Standing;
use crate::stats::Census;

/// Hundredths of a second since the server's start.
pub(crate) type Tick = u64;

const TICK_MS: u64 = 10;
pub(crate) const TICKS_A_SECOND: Tick = 1000 / TICK_MS;
/// Times from here on, in ticks, end at a multiple of the coarser tick.
const LONG: Tick = 200;
const COARSE: Tick = 10;
/// So many connections are counted before the IO thread may have its table again.
const CENSUS_AT_ONCE: usize = 1024;

/// When a connection is to be woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deadline {
    /// At this tick.
    At(Tick),
    /// When nothing has been asked of it for the keep-alive time. While a request is with a worker there is no
    /// deadline; the worker that answers notes the time in the link, so that the IO thread need not be told.
    WhenQuiet,
    /// The same, but that there is this one while a request is with a worker.
    WhileBusy(Tick),
}

impl Deadline {
    /// At the end of `tick`. `time` is how long that was away when it was set.
    pub(crate) fn at_end_of(tick: Tick, time: Duration) -> Self {
        Self::At(end_of(tick, time))
    }
}

struct Entry {
    /// A connection, or a WebSocket that is one of its streams.
    channel: Channel,
    deadline: Deadline,
    /// The slot that counts; the connection's number in any other slot is stale and ignored.
    scheduled: Tick,
}

struct Table {
    entries: Slab<Entry>,
    slots: BTreeMap<Tick, Vec<u32>>,
    /// What `run` sleeps until.
    armed: Tick,
}

/// The clock of one IO thread. All methods but [`Clock::census`] are called by that thread, so the lock is contended for
/// moments only, when somebody asks for the counts.
pub(crate) struct Clock {
    epoch: Instant,
    keep_alive: Tick,
    table: Mutex<Table>,
    earlier: Notify,
}

impl Clock {
    pub(crate) fn new(epoch: Instant, keep_alive: Duration) -> Self {
        let table = Table { entries: Slab::new(), slots: BTreeMap::new(), armed: Tick::MAX };
        Self { epoch, keep_alive: ticks(keep_alive), table: Mutex::new(table), earlier: Notify::new() }
    }

    /// The present tick.
    pub(crate) fn now(&self) -> Tick {
        tick_of(self.epoch)
    }

    /// The tick of a moment.
    pub(crate) fn tick_at(&self, moment: Instant) -> Tick {
        tick_of_duration(moment.saturating_duration_since(self.epoch))
    }

    /// The deadline that lies `after` from now, never earlier than that.
    pub(crate) fn after(&self, after: Duration) -> Deadline {
        Deadline::at_end_of(self.now().saturating_add(ticks(after)), after)
    }

    /// The deadline at `moment`, never earlier than that, for as long as a request is with a worker. `time` is how long it
    /// was when it was set.
    pub(crate) fn while_busy(&self, moment: Instant, time: Duration) -> Deadline {
        Deadline::WhileBusy(end_of(self.tick_at(moment), time))
    }

    /// Takes in a new connection and returns its number.
    pub(crate) fn add(&self, channel: Channel, deadline: Deadline) -> usize {
        let mut table = self.table.lock();
        let key = table.entries.insert(Entry { channel, deadline, scheduled: Tick::MAX });
        self.schedule(&mut table, key);
        key
    }

    /// Forgets a connection that has ended.
    pub(crate) fn remove(&self, key: usize) {
        self.table.lock().entries.try_remove(key);
    }

    /// Gives a connection another deadline.
    pub(crate) fn set(&self, key: usize, deadline: Deadline) {
        let mut table = self.table.lock();
        table.entries[key].deadline = deadline;
        self.schedule(&mut table, key);
    }

    /// Whether the deadline of a connection that was woken for it has passed indeed: it may have been moved meanwhile.
    /// If it has not, the connection is woken again when it has.
    pub(crate) fn is_due(&self, key: usize) -> bool {
        let mut table = self.table.lock();
        let is_due = self.due(&table.entries[key]).is_some_and(|due| due <= self.now());
        if !is_due {
            self.schedule(&mut table, key);
        }
        is_due
    }

    /// Every connection there is, for a broadcast such as the start of the drain.
    pub(crate) fn channels(&self) -> Vec<Channel> {
        self.table.lock().entries.iter().map(|(_, entry)| entry.channel.clone()).collect()
    }

    /// The connections by what they are at. Any thread; it reads the links' state, so that nobody has to keep count.
    pub(crate) fn census(&self) -> Census {
        let mut census = Census::default();
        let mut from = 0;
        loop {
            let table = self.table.lock();
            let end = table.entries.capacity();
            for entry in (from..end.min(from + CENSUS_AT_ONCE)).filter_map(|key| table.entries.get(key)) {
                let Some(standing) = entry.channel.standing() else { continue };
                let is_quiet = matches!(entry.deadline, Deadline::WhenQuiet | Deadline::WhileBusy(_));
                *match standing {
                    Standing::WebSocket => &mut census.websocket,
                    Standing::Writing => &mut census.writing,
                    Standing::Handling => &mut census.handling,
                    Standing::Closing => &mut census.closing,
                    Standing::Quiet if is_quiet => &mut census.idle,
                    Standing::Quiet => &mut census.reading,
                } += 1;
            }
            from += CENSUS_AT_ONCE;
            if from >= end {
                return census;
            }
        }
    }

    /// Wakes connections whose time has come; runs as a task of the IO thread for as long as that lives.
    pub(crate) async fn run(&self) {
        loop {
            let armed = {
                let mut table = self.table.lock();
                table.armed = table.slots.first_key_value().map_or(Tick::MAX, |(&tick, _)| tick);
                table.armed
            };
            if armed == Tick::MAX {
                self.earlier.notified().await;
            } else {
                let due = self.epoch + Duration::from_millis(armed * TICK_MS);
                tokio::select! {
                    () = tokio::time::sleep_until(due.into()) => {}
                    () = self.earlier.notified() => {}
                }
            }
            self.fire();
        }
    }

    fn fire(&self) {
        let now = self.now();
        let mut table = self.table.lock();
        while let Some(slot) = table.slots.first_entry() {
            let tick = *slot.key();
            if tick > now {
                break;
            }
            for key in slot.remove() {
                let key = key as usize;
                match table.entries.get_mut(key) {
                    Some(entry) if entry.scheduled == tick => entry.scheduled = Tick::MAX,
                    _ => continue,
                }
                let entry = &table.entries[key];
                if self.due(entry).is_some_and(|due| due <= now) {
                    entry.channel.expire();
                } else {
                    self.schedule(&mut table, key);
                }
            }
        }
    }

    /// When `entry` is due, or `None` while it has no deadline.
    fn due(&self, entry: &Entry) -> Option<Tick> {
        let link = entry.channel.link();
        match entry.deadline {
            Deadline::At(tick) => Some(tick),
            Deadline::WhileBusy(tick) if link.is_busy() => Some(tick),
            Deadline::WhenQuiet if link.is_busy() => None,
            Deadline::WhenQuiet | Deadline::WhileBusy(_) => {
                Some(rounded(link.quiet_since().saturating_add(self.keep_alive), self.keep_alive))
            }
        }
    }

    /// Puts a connection into the slot of its deadline, unless it stands in an earlier one, which will move it on.
    fn schedule(&self, table: &mut Table, key: usize) {
        let entry = &table.entries[key];
        let due = self.due(entry);
        let tick = match entry.deadline {
            Deadline::At(tick) => tick,
            // It is looked at again in any case: a worker may end the request without a word to this thread.
            _ => due.unwrap_or(Tick::MAX).min(self.now().saturating_add(self.keep_alive.max(1))),
        };
        if tick >= entry.scheduled {
            return;
        }
        table.entries[key].scheduled = tick;
        table.slots.entry(tick).or_default().push(key as u32);
        if tick < table.armed {
            table.armed = tick;
            self.earlier.notify_one();
        }
    }
}

/// The present tick of a server that started at `epoch`. Any thread.
pub(crate) fn tick_of(epoch: Instant) -> Tick {
    tick_of_duration(epoch.elapsed())
}

fn tick_of_duration(passed: Duration) -> Tick {
    passed.as_millis() as Tick / TICK_MS
}

/// A time in ticks, rounded up.
pub(crate) fn ticks(time: Duration) -> Tick {
    time.as_millis().div_ceil(u128::from(TICK_MS)).try_into().unwrap_or(Tick::MAX)
}

/// The next of the moments at which many connections may be looked at together.
pub(crate) fn coarse(tick: Tick) -> Tick {
    tick.div_ceil(COARSE).saturating_mul(COARSE)
}

/// The moment at which what is due at the end of `tick`, `time` after it was set, is looked at.
fn end_of(tick: Tick, time: Duration) -> Tick {
    rounded(tick.saturating_add(1), ticks(time))
}

fn rounded(tick: Tick, time: Tick) -> Tick {
    if time < LONG { tick } else { coarse(tick) }
}
