//! What of WASI a guest's standard library may import: everything is there, and everything is empty, fixed or seeded. No
//! environment, arguments, files or sockets; clocks stand still; randomness is the same in every call; standard output and standard
//! error are log messages.

use super::CallState;
use super::log::{CallLog, Level};
use bytes::Bytes;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::AsyncWrite;
use wasmtime::component::Linker;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream, WasiCli, WasiCliView as _};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView as _};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult, bindings as wasi};
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi::{Deterministic, HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxView, WasiView};

/// Interfaces that are linked, as prefixes of import names. Sockets and HTTP are not among them.
pub(crate) const LINKED: [&str; 7] = [
    "wasi:io/",
    "wasi:cli/",
    "wasi:clocks/wall-clock",
    "wasi:clocks/monotonic-clock",
    "wasi:random/",
    "wasi:filesystem/types",
    "wasi:filesystem/preopens",
];

/// Links the interfaces of [`LINKED`].
pub(crate) fn add_to_linker(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    // Streams, polls, clocks, secure randomness, standard streams.
    wasmtime_wasi::p2::add_to_linker_proxy_interfaces_async(linker)?;
    wasi::cli::environment::add_to_linker::<_, WasiCli>(linker, CallState::cli)?;
    wasi::cli::exit::add_to_linker::<_, WasiCli>(linker, CallState::cli)?;
    wasi::cli::terminal_input::add_to_linker::<_, WasiCli>(linker, CallState::cli)?;
    wasi::cli::terminal_output::add_to_linker::<_, WasiCli>(linker, CallState::cli)?;
    wasi::cli::terminal_stdin::add_to_linker::<_, WasiCli>(linker, CallState::cli)?;
    wasi::cli::terminal_stdout::add_to_linker::<_, WasiCli>(linker, CallState::cli)?;
    wasi::cli::terminal_stderr::add_to_linker::<_, WasiCli>(linker, CallState::cli)?;
    wasi::filesystem::types::add_to_linker::<_, WasiFilesystem>(linker, CallState::filesystem)?;
    wasi::filesystem::preopens::add_to_linker::<_, WasiFilesystem>(linker, CallState::filesystem)?;
    wasi::random::insecure::add_to_linker::<_, WasiRandom>(linker, |state| state.ctx().ctx.random())?;
    wasi::random::insecure_seed::add_to_linker::<_, WasiRandom>(linker, |state| state.ctx().ctx.random())
}

impl WasiView for CallState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: self.wasi.get_or_insert_with(|| context(&self.log)), table: &mut self.table }
    }
}

/// Bytes that the guest's generators cycle through. Any will do, as long as they are the same each time.
const SEED: [u8; 16] = *b"mmhost plugin\x01\x02\x03";
/// What the wall clock shows: 2000-01-01 UTC, in seconds since 1970.
const FIXED_TIME: Duration = Duration::from_secs(946_684_800);

/// The WASI of one call.
fn context(log: &CallLog) -> WasiCtx {
    WasiCtx::builder()
        .stdout(LogStream { log: log.clone(), level: Level::Info })
        .stderr(LogStream { log: log.clone(), level: Level::Warn })
        .secure_random(Deterministic::new(SEED.to_vec()))
        .insecure_random(Deterministic::new(SEED.to_vec()))
        .insecure_random_seed(u128::from_le_bytes(SEED))
        .max_random_size(1 << 20)
        .wall_clock(FixedClock)
        .monotonic_clock(FixedClock)
        .allow_tcp(false)
        .allow_udp(false)
        .build()
}

struct FixedClock;

impl HostWallClock for FixedClock {
    fn resolution(&self) -> Duration {
        Duration::from_secs(1)
    }
    fn now(&self) -> Duration {
        FIXED_TIME
    }
}

impl HostMonotonicClock for FixedClock {
    fn resolution(&self) -> u64 {
        1_000_000_000
    }
    fn now(&self) -> u64 {
        0
    }
}

/// Standard output or standard error: each write is a log message of the level.
#[derive(Clone)]
struct LogStream {
    log: CallLog,
    level: Level,
}

impl LogStream {
    fn say(&self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        let is_said = |line: &&str| !line.trim().is_empty() && !line.starts_with("note: run with `RUST_BACKTRACE");
        for line in text.lines().filter(is_said) {
            self.log.write(self.level, line);
        }
        if self.level == Level::Warn {
            // A panic comes in one write of several lines, which make sense together only.
            self.log.remember(&text.lines().filter(is_said).collect::<Vec<_>>().join(" "));
        }
    }
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    // Without the adapter's background task, messages arrive before the call ends.
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {}
}

impl OutputStream for LogStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.say(&bytes);
        Ok(())
    }
    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }
    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(4096)
    }
}

impl AsyncWrite for LogStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.say(bytes);
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
