//! `pairs`: closed or open loop over P pairs. `overload`: far too much, then a probe.

use serde_json::{Value, json};

use crate::clock::{self, as_seconds, seconds};
use crate::options::Options;
use crate::proc::Watch;
use crate::swarm::Swarm;
use crate::traffic::{Load, Pace, Traffic};

/// Run traffic for so many nanoseconds.
pub fn run_for(
    swarm: &mut Swarm,
    traffic: &mut Traffic,
    load: &mut Load,
    duration: u64,
) -> Result<(), String> {
    let end = clock::now() + duration;
    while clock::now() < end {
        let wake = traffic.step(swarm, load).min(end);
        swarm.turn(wake, traffic).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Run traffic for a measured window; describe what it cost and carried.
pub fn measure(
    swarm: &mut Swarm,
    traffic: &mut Traffic,
    load: &mut Load,
    duration: u64,
    watch: &Watch,
) -> Result<Value, String> {
    traffic.restart_clocks();
    let (sample, counts) = (watch.sample()?, traffic.counts);
    run_for(swarm, traffic, load, duration)?;
    let delivered = traffic.counts.delivered - counts.delivered;
    let mut report = watch.sample()?.since(&sample, delivered);
    let sent = traffic.counts.sent - counts.sent;
    report["sent"] = json!(sent);
    report["delivered"] = json!(delivered);
    report["per_second"] = json!((delivered as f64 / as_seconds(duration)).round());
    if let Load::Paced(pace) = load {
        let due = pace.rate() * as_seconds(duration);
        report["offered_share"] = json!((sent as f64 / due * 1e4).round() / 1e4);
    }
    report["latency_us"] = traffic.latency.micros();
    report["lateness_us"] = traffic.lateness.micros();
    Ok(report)
}

/// `pairs`.
pub fn pairs(mut options: Options) -> Result<Value, String> {
    let common = options.common()?;
    let (pairs, size) = (options.count("--pairs", 10)?, options.size()?);
    let window: u64 = options.get("--window", 32)?;
    let rate: Option<f64> = options.optional("--rate")?;
    let length = seconds(options.get("--seconds", 5.0)?);
    let warmup = seconds(options.get("--warmup", 1.0)?);
    options.finish()?;

    let mut swarm = Swarm::new().map_err(|error| error.to_string())?;
    let targets = (&common.target, &common.other);
    let mut traffic =
        Traffic::connect(size, pairs, &mut swarm, targets, common.concurrency)?;
    let mut load = match rate {
        Some(rate) if rate > 0.0 => Load::Paced(Pace::new(rate)),
        Some(rate) => return Err(format!("--rate {rate}: must be above 0")),
        None => Load::Window(window.max(1)),
    };
    traffic.wake();
    run_for(&mut swarm, &mut traffic, &mut load, warmup)?;
    let measured = measure(&mut swarm, &mut traffic, &mut load, length, &common.watch)?;
    traffic.drain(&mut swarm)?;
    Ok(json!({
        "load": "pairs",
        "ok": traffic.ok() && traffic.counts.delivered > 0,
        "pairs": pairs, "size": size,
        "window": rate.is_none().then_some(window), "rate": rate,
        "tls": !common.target.plain,
        "measured": measured,
        "whole_run": traffic.report(),
    }))
}

/// `overload`.
pub fn overload(mut options: Options) -> Result<Value, String> {
    let common = options.common()?;
    let (pairs, size) = (options.count("--pairs", 10)?, options.size()?);
    let window: u64 = options.get("--window", 1024)?;
    let length = seconds(options.get("--seconds", 5.0)?);
    let probe = seconds(options.get("--probe", 2.0)?);
    options.finish()?;

    let mut swarm = Swarm::new().map_err(|error| error.to_string())?;
    let targets = (&common.target, &common.other);
    let mut traffic =
        Traffic::connect(size, pairs, &mut swarm, targets, common.concurrency)?;
    traffic.wake();
    let mut load = Load::Window(window.max(1));
    let mut measured =
        measure(&mut swarm, &mut traffic, &mut load, length, &common.watch)?;
    let stopped = clock::now();
    let drained = traffic.drain(&mut swarm)?;
    let (sent, delivered) = (traffic.counts.sent, traffic.counts.delivered);
    measured["delivered_share"] =
        json!((delivered as f64 / sent as f64 * 1e4).round() / 1e4);
    measured["drain_s"] = json!(as_seconds(drained.saturating_sub(stopped)));

    traffic.wake();
    let mut gentle = Load::Window(1);
    let mut after =
        measure(&mut swarm, &mut traffic, &mut gentle, probe, &common.watch)?;
    traffic.drain(&mut swarm)?;
    let (sent, arrived) =
        (traffic.counts.sent - sent, traffic.counts.delivered - delivered);
    after["lost"] = json!(sent - arrived);
    let recovered = arrived > 0 && arrived == sent;
    Ok(json!({
        "load": "overload",
        "ok": traffic.ok() && recovered,
        "pairs": pairs, "size": size, "window": window, "tls": !common.target.plain,
        "measured": measured,
        "recovered": recovered,
        "probe": after,
        "whole_run": traffic.report(),
    }))
}
