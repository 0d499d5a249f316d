//! Tries to reach, by the standard library, what a plugin has no business with.

use mmhost_sdk::ConfigError;
use mmhost_sdk::tool::{CallForm, Description, Input, Part, Tool, ToolError};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

#[derive(miniserde::Deserialize)]
struct Config {}

struct Probe;

static CALLED: AtomicBool = AtomicBool::new(false);

impl Tool for Probe {
    type Config = Config;

    fn describe(_: &Config) -> Result<Description, ConfigError> {
        Ok(Description {
            name: "wasi-probe".into(),
            description: "tries things".into(),
            call: CallForm::Tag("probe".into()),
            max_calls: 1,
            instruction: String::new(),
            needs_image: false,
        })
    }

    fn call(_: &Config, input: Input) -> Result<Vec<Part>, ToolError> {
        let (what, path) = input.argument.split_once(' ').unwrap_or((&input.argument, ""));
        let tried = |what: &str, outcome: std::io::Result<()>| match outcome {
            Ok(()) => format!("can {what}"),
            Err(_) => format!("cannot {what}"),
        };
        let text = match what {
            "env" => format!("{} variables", std::env::vars().count()),
            "args" => format!("{} arguments", std::env::args().count()),
            "file" => tried("read", std::fs::read(path).map(drop)),
            "dir" => tried("list", std::fs::read_dir(path).map(drop)),
            "write" => tried("write", std::fs::write(path, "owned")),
            "clock" => {
                let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                let start = Instant::now();
                // Work, which a clock would notice.
                let spent = (0..1_000_000u64).fold(0, |sum, n| sum ^ n.wrapping_mul(n));
                format!("{} and {}{}", wall.as_secs(), start.elapsed().as_nanos(), if spent == 1 { "!" } else { "" })
            }
            "random" => {
                // A map's order comes from the system's randomness; the same in every instance, it tells nothing.
                let map: HashMap<u32, u32> = (0..8).map(|n| (n, n)).collect();
                let order: Vec<u32> = map.into_keys().collect();
                format!("the same {order:?}")
            }
            "stdin" => {
                let mut read = Vec::new();
                let _ = std::io::stdin().read_to_end(&mut read);
                format!("{} bytes", read.len())
            }
            "exit" => std::process::exit(0),
            "panic" => panic!("a panic with words"),
            "sleep" => {
                std::thread::sleep(Duration::from_secs(3600));
                "awake".into()
            }
            "flood" => {
                let line = "x".repeat(4000);
                loop {
                    let _ = writeln!(std::io::stdout(), "{line}");
                }
            }
            "remember" => match CALLED.swap(true, Ordering::Relaxed) {
                true => "it was here before".into(),
                false => "nothing is remembered".into(),
            },
            _ => return Err(ToolError::BadArgument(format!("`{what}`"))),
        };
        Ok(vec![Part::Text(text)])
    }
}

mmhost_sdk::export_tool!(Probe);
