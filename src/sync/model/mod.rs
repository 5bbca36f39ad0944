//! A model of the cluster, which is explored exhaustively for small numbers.
//!
//! The code under test is the real one: replicas are the machine and the reducer
//! ([`CircuitSync`](super::CircuitSync)), and the backend is the rules of
//! [`MemoryBackend`](crate::backend::MemoryBackend), all of them pure. The model plays what is
//! between them: messages that are dropped, late, executed twice or in another order, processes
//! that crash, clocks that jump, a backend that loses everything or its last change, and forged
//! pushes. A replica's engine and replicator are here in short ([`replica`], [`replicator`]): what
//! they do with one circuit, without tasks.
//!
//! [`steps`] says what can happen next, [`checks`] what must never happen and what must happen in
//! the end, and [`search`] tries everything, nearest first. [`old`] puts a rule of the first design
//! in place of a new one: the checker must find that it is wrong, or it would find nothing.

mod checks;
mod copy;
mod delivery;
mod history;
mod old;
mod replica;
mod replicator;
mod search;
mod steps;
mod tests;
mod world;
