//! A clock that is moved by hand, for libraries that take none: this program answers in the place of the C library.
#![expect(
    unsafe_code,
    reason = "`std::time::Instant` asks the C library, which only its own interface can stand in for"
)]

use std::ffi::{c_int, c_long};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use service_mesh::{Clock, Timestamp};

const NANOSECONDS: i64 = 1_000_000_000;

/// Far from zero, since libraries subtract. `Ordering:` Relaxed everywhere, there is one thread.
static NOW: AtomicI64 = AtomicI64::new(1_000_000 * NANOSECONDS);

#[repr(C)]
struct Timespec {
    seconds: i64,
    nanoseconds: c_long,
}

/// Moves it.
pub(crate) fn advance(by: Duration) {
    NOW.fetch_add(i64::try_from(by.as_nanos()).expect("a scenario takes less than centuries"), Ordering::Relaxed);
}

// SAFETY: 1. The name is that of a function which the C library defines too; a definition in the program goes before,
// and its signature is POSIX's. 2. It keeps the promise of that function: it fills the struct and answers 0. 3. Callers
// that want the true time, as a wait with a limit, do not exist here: there is one thread, and nobody waits.
#[unsafe(no_mangle)]
extern "C" fn clock_gettime(_clock: c_int, time: *mut Timespec) -> c_int {
    let now = NOW.load(Ordering::Relaxed);
    // SAFETY: POSIX wants the caller to give a place for a timespec, whose layout on 64-bit Linux is this one.
    unsafe { time.write(Timespec { seconds: now / NANOSECONDS, nanoseconds: now % NANOSECONDS }) };
    0
}

/// The same for whoever takes a clock.
#[derive(Debug)]
pub(crate) struct ByHand;

impl Clock for ByHand {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(NOW.load(Ordering::Relaxed).unsigned_abs())
    }
}

/// Whether `Instant` asks us.
pub(crate) fn is_ours() -> bool {
    let before = std::time::Instant::now();
    advance(Duration::from_secs(7));
    before.elapsed() == Duration::from_secs(7)
}
