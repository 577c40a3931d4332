//! `seaworthy serve`: starts everything, waits for a signal, drains.

use std::io::IsTerminal as _;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Running, StartError};
use crate::config::Inputs;

/// Threads of everything but the data plane: the store's readers, the console, the pump.
const CONTROL_THREADS: usize = 2;

/// Serves until SIGTERM or SIGINT. A second signal ends it at once.
pub fn run(inputs: Inputs) -> Result<(), StartError> {
    let runtime = runtime()?;
    let served = runtime.block_on(async {
        let mut signals = Signals::listen()?;
        let running = super::start(inputs).await?;
        announce(&running);
        while let Ask::Reload = signals.next().await {
            if running.reload().await.is_err() {
                tracing::debug!("the last config stays in force");
            }
        }
        tracing::info!("draining; a second signal ends it at once");
        let mut stopping = std::pin::pin!(running.stop());
        loop {
            tokio::select! {
                () = &mut stopping => break tracing::info!("drained"),
                ask = signals.next() => if matches!(ask, Ask::Stop) {
                    break tracing::warn!("ended before the drain was over");
                },
            }
        }
        Ok(())
    });
    // Dropped, it would wait for the drain that a second signal has cut short.
    runtime.shutdown_background();
    served
}

/// Returns when the process is asked to end.
pub(super) async fn stop_asked() {
    listen_for_stop().await;
}

/// Listens from now on, and not only when what it returns is awaited: that ends when the process is
/// asked to end.
pub(super) fn listen_for_stop() -> impl Future<Output = ()> {
    let signals = Signals::listen();
    async {
        let Ok(mut signals) = signals else { return std::future::pending().await };
        while !matches!(signals.next().await, Ask::Stop) {}
    }
}

/// The runtime of everything but the data plane.
pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build()?;
    Ok(runtime)
}

fn announce(running: &Running) {
    let (traffic, console) = (running.traffic(), running.console());
    tracing::info!(%traffic, %console, "serving");
    if std::io::stderr().is_terminal() {
        eprintln!("  traffic  http://{traffic}\n  console  http://{console}");
    }
}

/// What a signal asks for.
#[derive(Debug)]
enum Ask {
    Stop,
    Reload,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Ask {
        tokio::select! {
            _ = self.terminate.recv() => Ask::Stop,
            _ = self.interrupt.recv() => Ask::Stop,
            _ = self.hang_up.recv() => Ask::Reload,
        }
    }
}
