//! The bodies of responses.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::watch;

use super::log::{Log, Read};
use super::seats::Seat;

/// The body of a response of [`AdminService`](super::AdminService): a whole document, or a stream
/// of events.
///
/// # Cost
///
/// All streams share the events that wait to be read, at most 4 MiB. A stream that is further
/// behind ends.
pub struct Body(Kind);

enum Kind {
    Whole(Bytes),
    Events(Box<Events>),
}

/// The events of one connection.
pub(super) struct Events {
    first: VecDeque<Bytes>,
    log: Arc<Log>,
    seat: Arc<Seat>,
    next: u64,
    head: Head,
}

/// Resolves when there is another frame; to `None` when no more will come.
type Head = Pin<Box<dyn Future<Output = Option<watch::Receiver<u64>>> + Send + Sync>>;

fn more(mut head: watch::Receiver<u64>) -> Head {
    Box::pin(async move { head.changed().await.is_ok().then_some(head) })
}

impl Events {
    /// The frames of `first`, and then those of the log from `next` on.
    pub(super) fn new(first: Vec<Bytes>, log: Arc<Log>, seat: Arc<Seat>, next: u64) -> Self {
        seat.reads(next);
        let head = more(log.head());
        Self { first: first.into(), log, seat, next, head }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            if self.seat.is_over() {
                return Poll::Ready(None);
            }
            if let Some(frame) = self.first.pop_front() {
                return Poll::Ready(Some(frame));
            }
            match self.log.read(self.next) {
                Read::Frame(frame) => {
                    self.next += 1;
                    self.seat.reads(self.next);
                    return Poll::Ready(Some(frame));
                }
                Read::TooLate => {
                    self.seat.end();
                    return Poll::Ready(None);
                }
                Read::NotYet => match ready!(self.head.as_mut().poll(cx)) {
                    Some(head) => self.head = more(head),
                    None => {
                        self.seat.end();
                        return Poll::Ready(None);
                    }
                },
            }
        }
    }
}

impl Body {
    pub(super) fn whole(bytes: Bytes) -> Self {
        Self(Kind::Whole(bytes))
    }

    pub(super) fn events(events: Events) -> Self {
        Self(Kind::Events(Box::new(events)))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = match &mut self.0 {
            Kind::Whole(bytes) if bytes.is_empty() => None,
            Kind::Whole(bytes) => Some(std::mem::take(bytes)),
            Kind::Events(events) => ready!(events.poll(cx)),
        };
        Poll::Ready(frame.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(bytes) => bytes.is_empty(),
            Kind::Events(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Events(_) => SizeHint::default(),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").finish_non_exhaustive()
    }
}
