//! A DERP client swarm: loads a relay, prints what it saw as one JSON document.

mod clock;
mod cmd;
mod conn;
mod diag;
mod hist;
mod hybrid;
mod net;
mod options;
mod proc;
mod swarm;
mod tls;
mod traffic;
mod wire;

use std::process::ExitCode;

use pico_args::Arguments;
use serde_json::Value;

use crate::conn::Role;
use crate::options::Options;

const USAGE: &str = "\
usage: derpload LOAD --addr IP:PORT [options]

Prints one JSON document on stdout and exits 0 if its \"ok\" is true, 1 if not,
2 if the load could not be run. `idle`, `herd` and `roam` print a line before it
for each event. Every packet is numbered and patterned; damage, duplicates,
reordering and wrong receivers make \"ok\" false. Losses are counted only.

loads
  pairs       closed loop:  --pairs 10 --window 32     (in flight per pair)
              open loop:    --pairs 100 --rate 5000    (packets a second, in all)
              --size 1400 --seconds 5 --warmup 1
  overload    --pairs 10 --window 1024 --size 1400 --seconds 5 --probe 2
  handshakes  --count 1000 --concurrency 16 --warmup-count 50 --settle 0.3
  idle        --clients 1000 --check 100 --settle 2 --warmup-count 50
              holds until stdin ends; stdin: \"relay [N]\", \"rss\"
  herd        --clients 1000 --cut-after S --limit 60 --check 100
              waits for --cut-after, \"cut\" on stdin, or the relay's own cut;
              comes back to --addr-b, if given
  roam        --node IP:PORT (the next of the region's list; may be repeated)
              --clients 1000 --pairs 100 --rate 200 (packets a second, in all)
              --limit 60 --check 100
              goes on until stdin ends and everybody has a node
  silent      --rate 1000 --seconds 10 --count N --watch 40 --sources N
              --probe-rate 0 (real logins a second) --healthy 0 --healthy-rate 500
  halftls     the same with a ClientHello; drip: TLS, then a byte each --interval 5
  frozen      --frozen 100 --senders 1000 --flood-rate 20000
              --pairs 10 --rate 1000 --size 1400 --seconds 8
  dupfight    --reconnects 20 --pairs 1 --rate 500 --size 1400 --seconds 10
  stun        --rate 5000 --burst 1 --seconds 5

for all
  --addr IP:PORT      the relay; for `pairs` and `overload` that of the senders
  --addr-b IP:PORT    the relay of the receivers [--addr]
  --host NAME         Host header and TLS name [the address]
  --plain             no TLS                   --no-fast-start  ask for the 101
  --hybrid            offer X25519MLKEM768, as Go's clients do, before X25519
  --concurrency N     logins at the same time [16]
  --cpu N             run on this CPU          --watch-cpu N    report its use
  --relay-pid N       account this process and its children; may be repeated
";

type Load = fn(Options) -> Result<Value, String>;

fn load(name: &str) -> Option<Load> {
    Some(match name {
        "pairs" => cmd::pairs::pairs,
        "overload" => cmd::pairs::overload,
        "handshakes" => cmd::handshakes::handshakes,
        "idle" => cmd::crowd::idle,
        "herd" => cmd::herd::herd,
        "roam" => cmd::roam::roam,
        "silent" => |options| cmd::silent::intrude(Role::Silent, options),
        "halftls" => |options| cmd::silent::intrude(Role::HalfTls, options),
        "drip" => |options| cmd::silent::intrude(Role::Drip, options),
        "frozen" => cmd::frozen::frozen,
        "dupfight" => cmd::fight::dupfight,
        "stun" => cmd::stun::stun,
        _ => return None,
    })
}

fn run() -> Result<Value, String> {
    let mut arguments = Arguments::from_env();
    if arguments.contains(["-h", "--help"]) {
        print!("{USAGE}");
        std::process::exit(0);
    }
    let name = arguments.subcommand().map_err(|error| error.to_string())?;
    let name = name.ok_or_else(|| format!("which load?\n\n{USAGE}"))?;
    let load = load(&name).ok_or_else(|| format!("{name} is not a load\n\n{USAGE}"))?;
    load(Options::new(arguments))
}

fn main() -> ExitCode {
    match run() {
        Ok(report) => {
            println!("{report}");
            if report["ok"] == true { ExitCode::SUCCESS } else { ExitCode::from(1) }
        }
        Err(error) => {
            eprintln!("derpload: {error}");
            ExitCode::from(2)
        }
    }
}
