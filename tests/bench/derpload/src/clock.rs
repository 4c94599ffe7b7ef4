//! Time as nanoseconds of the monotonic clock, cheap enough for every batch.

/// Nanoseconds in one second.
pub const SECOND: u64 = 1_000_000_000;
/// Nanoseconds in one millisecond.
pub const MILLI: u64 = 1_000_000;

fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` outlives the call, and both clocks exist on every Linux.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as u64 * SECOND + time.tv_nsec as u64
}

/// Return the monotonic time.
pub fn now() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// Return the CPU time of this process, user and system.
pub fn own_cpu() -> u64 {
    read(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// Convert seconds of a command line option.
pub fn seconds(value: f64) -> u64 {
    (value * SECOND as f64) as u64
}

/// Express nanoseconds as seconds.
pub fn as_seconds(value: u64) -> f64 {
    value as f64 / SECOND as f64
}
