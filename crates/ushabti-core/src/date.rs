//! The `Date` of answers (RFC 9110 section 6.6.1).

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

use ushabti_proto::http1::encode::http_date;

/// The present `Date`, formatted once a second and thread.
pub(crate) fn now() -> [u8; 29] {
    thread_local! {
        static CACHE: Cell<(u64, [u8; 29])> = const { Cell::new((0, [0; 29])) };
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    CACHE.with(|cache| {
        let (second, text) = cache.get();
        if second == now && second != 0 {
            return text;
        }
        let text = http_date(now);
        cache.set((now, text));
        text
    })
}
