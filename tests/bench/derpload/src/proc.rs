//! What the relay, this generator and the machine spent, from the kernel's books.

use std::fs;

use serde_json::{Value, json};

use crate::clock::{self, as_seconds};

/// Processes and CPUs to watch.
#[derive(Clone, Default)]
pub struct Watch {
    /// Relays, each with all its descendants.
    pub pids: Vec<u32>,
    /// CPUs whose use by others is of interest.
    pub cpus: Vec<usize>,
}

/// The books at one moment.
#[derive(Clone)]
pub struct Sample {
    at: u64,
    own_cpu: u64,
    relay: Option<Usage>,
    cpus: Vec<CpuTimes>,
}

/// What the relay's processes use, all together.
#[derive(Clone, Copy, Default)]
struct Usage {
    cpu: f64,
    rss_kib: u64,
    files: u64,
    processes: u64,
}

/// Seconds of one CPU since boot.
#[derive(Clone, Copy, Default)]
struct CpuTimes {
    busy: f64,
    stolen: f64,
}

fn ticks(count: f64) -> f64 {
    // SAFETY: reads a constant of the system.
    count / unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64
}

/// Return a process and all its descendants.
fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut next = 0;
    while next < all.len() {
        let tasks = fs::read_dir(format!("/proc/{}/task", all[next]));
        for task in tasks.into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children"));
            let children = children.unwrap_or_default();
            all.extend(children.split_whitespace().flat_map(str::parse::<u32>));
        }
        next += 1;
    }
    all
}

/// CPU seconds of a process with its threads, and of the children it has reaped.
fn cpu_of(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name may hold blanks and brackets; the fields follow its last one.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let times = fields.get(11..15)?; // utime stime cutime cstime
    let sum: f64 = times.iter().flat_map(|field| field.parse::<f64>()).sum();
    Some(ticks(sum))
}

fn rss_of(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn files_of(pid: u32) -> u64 {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |dir| dir.count() as u64)
}

fn cpu_times(cpus: &[usize]) -> Vec<CpuTimes> {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let of = |cpu: &usize| -> Option<CpuTimes> {
        let name = format!("cpu{cpu} ");
        let line = stat.lines().find_map(|line| line.strip_prefix(&name))?;
        // user nice system idle iowait irq softirq steal
        let t: Vec<f64> = line.split_whitespace().flat_map(str::parse::<f64>).collect();
        let busy = t[0] + t[1] + t[2] + t[5] + t[6];
        Some(CpuTimes { busy: ticks(busy), stolen: ticks(t[7]) })
    };
    cpus.iter().map(|cpu| of(cpu).unwrap_or_default()).collect()
}

impl Watch {
    /// Read the books; fails when a relay is gone.
    pub fn sample(&self) -> Result<Sample, String> {
        let mut usage = Usage::default();
        for &root in &self.pids {
            let root_cpu = cpu_of(root);
            if root_cpu.is_none() {
                return Err(format!("the relay, process {root}, is gone"));
            }
            for pid in family(root) {
                usage.cpu += cpu_of(pid).unwrap_or(0.0);
                usage.rss_kib += rss_of(pid);
                usage.files += files_of(pid);
                usage.processes += 1;
            }
        }
        Ok(Sample {
            at: clock::now(),
            own_cpu: clock::own_cpu(),
            relay: (!self.pids.is_empty()).then_some(usage),
            cpus: cpu_times(&self.cpus),
        })
    }

    /// Return only the relay's RSS, cheap enough to watch for a peak.
    pub fn rss_kib(&self) -> u64 {
        let families = self.pids.iter().flat_map(|&pid| family(pid));
        families.map(rss_of).sum()
    }

    /// Return how many files the relay has open.
    pub fn files(&self) -> u64 {
        let families = self.pids.iter().flat_map(|&pid| family(pid));
        families.map(files_of).sum()
    }
}

fn round(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

impl Sample {
    /// Return the relay's RSS, 0 when none is watched.
    pub fn rss_kib(&self) -> u64 {
        self.relay.map_or(0, |usage| usage.rss_kib)
    }

    /// Describe what was spent since an earlier sample, for `units` of work.
    pub fn since(&self, before: &Self, units: u64) -> Value {
        let wall = as_seconds(self.at - before.at);
        let own = as_seconds(self.own_cpu - before.own_cpu);
        let both = self.cpus.iter().zip(&before.cpus);
        let cpus: Vec<Value> = both
            .map(|(now, then)| {
                json!({"busy": round((now.busy - then.busy) / wall, 3),
                   "stolen": round((now.stolen - then.stolen) / wall, 3)})
            })
            .collect();
        let relay = self.relay.zip(before.relay).map(|(now, then)| {
            let cpu = now.cpu - then.cpu;
            let each = (units > 0).then(|| round(cpu * 1e6 / units as f64, 3));
            json!({"cpu_s": round(cpu, 3), "share": round(cpu / wall, 3),
                   "cpu_us_each": each, "processes": now.processes,
                   "rss_kib": [then.rss_kib, now.rss_kib],
                   "files": [then.files, now.files]})
        });
        json!({"wall_s": round(wall, 3),
               "generator": {"cpu_s": round(own, 3), "share": round(own / wall, 3)},
               "relay": relay, "cpus": cpus})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found_with_cpu_memory_and_files() {
        let watch = Watch { pids: vec![std::process::id()], cpus: vec![0] };
        let before = watch.sample().unwrap();
        let busy = (0..50_000_000_u64).fold(0, |sum: u64, n| sum.wrapping_add(n * n));
        assert_ne!(std::hint::black_box(busy), 1);
        let after = watch.sample().unwrap();
        let spent = after.since(&before, 10);
        assert!(spent["generator"]["cpu_s"].as_f64().unwrap() >= 0.0);
        assert!(spent["relay"]["rss_kib"][1].as_u64().unwrap() > 0);
        assert!(watch.files() > 2);
    }

    #[test]
    fn a_relay_that_is_gone_is_an_error() {
        let watch = Watch { pids: vec![u32::MAX / 2], cpus: vec![] };
        assert!(watch.sample().is_err());
    }
}
