//! The circuits of a cluster, live in the terminal.
//!
//! The [model] is a reducer of what happens, and [drawing](draw) a function of the model. What
//! is here carries inputs to the one, and what it wants done to the backend.

mod cluster;
mod draw;
mod feed;
mod form;
mod look;
mod model;
mod pane;
mod rows;
mod screen;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use ratatui::crossterm::event::Event;
use tokio::sync::mpsc::channel;
use tokio::time::{MissedTickBehavior, interval};
use tower_breaker::backend::RedisBackend;

use crate::failure::Failure;
use crate::signals::Ends;
use look::Look;
use model::{Effect, Input, Model};
pub(crate) use screen::Screen;

/// How often it is drawn at most, but for keys.
const FRAME: Duration = Duration::from_millis(100);

/// Runs until the operator quits, or a signal ends the program.
pub(crate) async fn run(backend: &RedisBackend, actor: Option<String>) -> Result<(), Failure> {
    let (inputs, mut incoming) = channel(256);
    let feed = tokio::spawn(feed::follow(backend.clone(), inputs.clone()));
    let start = now();
    let (mut model, look) = (Model::new(actor), Look::of_environment());
    let mut ends = Ends::new()?;
    let mut screen = Screen::enter()?;
    let mut events = screen::events();
    let mut frames = interval(FRAME);
    frames.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut drawn = None;
    let mut changed = true;
    let ended = loop {
        let input = tokio::select! {
            event = events.recv() => match event {
                Some(Event::Key(key)) => Input::Key(key),
                Some(Event::Paste(pasted)) => Input::Pasted(pasted),
                // A new size is drawn at once, as keys are.
                Some(_) => Input::Tick,
                None => break Err(Failure::Failed("the terminal is gone".to_owned())),
            },
            Some(input) = incoming.recv() => {
                model.apply(now() - start, input);
                changed = true;
                continue;
            }
            _ = frames.tick() => {
                // Times on the screen have seconds.
                let second = Some((now() - start).as_secs());
                if !changed && drawn == second {
                    continue;
                }
                (drawn, changed) = (second, false);
                Input::Tick
            }
            signal = ends.next() => break Err(Failure::Ended(signal)),
        };
        let effects = model.apply(now() - start, input);
        if effects.contains(&Effect::Quit) {
            break Ok(());
        }
        for effect in effects {
            let (backend, inputs) = (backend.clone(), inputs.clone());
            tokio::spawn(async move {
                if let Some(answer) = feed::act(backend, effect).await {
                    let _ = inputs.send(answer).await;
                }
            });
        }
        screen.draw(|frame| draw::whole(frame, &model, look))?;
    };
    feed.abort();
    drop(screen);
    ended
}

fn now() -> Instant {
    #[expect(
        clippy::disallowed_methods,
        reason = "the lint is for the library; the model reads none"
    )]
    Instant::now()
}
