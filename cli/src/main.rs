//! `tower-breaker`: shows and overrides circuits, from any machine that reaches their Redis, also
//! when no replica runs; and replays traces of calls.
//!
//! Exit codes: 0 done; 1 not done, with the reason on standard error; 2 the arguments are wrong.

mod args;
mod circuits;
mod connection;
mod failure;
mod history;
mod policy;
mod print;
mod prometheus;
mod replay;
mod replicas;
mod serve;
mod signals;
mod top;
mod view;
mod watch;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};
use failure::Failure;

fn main() -> ExitCode {
    let args = Args::parse();
    match run(args) {
        // The reader of a pipe has what it wants.
        Ok(()) | Err(Failure::PipeClosed) => ExitCode::SUCCESS,
        Err(failure) => {
            // Where standard error is closed, the exit code still says it.
            let _ = writeln!(std::io::stderr(), "error: {}", print::text(&failure.to_string()));
            failure.code()
        }
    }
}

fn run(args: Args) -> Result<(), Failure> {
    let Args { redis, json, command } = args;
    let out = &mut print::Output::new(json);
    if let Command::Replay(replay) = &command {
        return replay::run(replay, out);
    }
    if let Command::Top { .. } = &command {
        top::Screen::check()?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let backend = connection::connect(&redis).await?;
        let done = match command {
            Command::List => circuits::list(&backend, out).await,
            Command::Show { name } => circuits::show(&backend, &name, out).await,
            Command::History { name } => history::show(&backend, &name, out).await,
            Command::Open(set) => circuits::force(&backend, args::State::Open, set, out).await,
            Command::Close(set) => circuits::force(&backend, args::State::Close, set, out).await,
            Command::Disable(set) => {
                circuits::force(&backend, args::State::Disable, set, out).await
            }
            Command::Reset { name } => circuits::reset(&backend, &name, out).await,
            Command::Replicas => replicas::list(&backend, out).await,
            Command::Top { actor } => {
                top::run(&backend, actor.or_else(|| connection::variable("USER"))).await
            }
            Command::Serve(serve) => serve::run(&backend, serve, out).await,
            Command::Watch { lasting } => watch::run(&backend, lasting, out).await,
            Command::Replay(_) => Ok(()),
        };
        connection::close(&backend).await;
        done
    })
}
