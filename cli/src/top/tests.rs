//! The model as a reducer, and the screen as a function of it.

use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::json;
use tower_breaker::backend::{OpenTerms, OverrideChange, RecordState, ReplicaInfo, Roll, View};
use tower_breaker::event::{HistoryEntry, Reason, Tally, Transition};
use tower_breaker::overrides::{Override, OverrideState};
use tower_breaker::{CircuitName, State};

use super::draw;
use super::look::Look;
use super::model::{Effect, Input, Mode, Model};

mod drawing;
mod misleads;

const PLAIN: Look = Look { colours: false, unicode: false };
const COLOURED: Look = Look { colours: true, unicode: true };

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn name(name: &str) -> CircuitName {
    CircuitName::new(name.to_owned()).unwrap()
}

fn view(state: RecordState) -> View {
    let mut view = View::default();
    view.generation = 7;
    view.state = state;
    view
}

fn open() -> View {
    let terms = OpenTerms { interval: secs(30), probes: 2, reopenings: 1, ..OpenTerms::default() };
    let mut view = view(RecordState::Open { terms, remaining: secs(20) });
    view.reason = Some(Reason::FailureRate);
    view.tally = Tally { calls: 20, failures: 12, ..Tally::default() };
    view.contributors = vec!["web-1".to_owned()];
    view.last_error = Some("503\x1b[2J".into());
    view
}

fn half_open() -> View {
    let terms = OpenTerms { probes: 3, successes_to_close: 2, ..OpenTerms::default() };
    view(RecordState::HalfOpen { terms, passed: 1, out: 2, next_expiry: None })
}

fn suspect() -> View {
    let mut view = view(RecordState::Closed);
    view.suspect = Some(Roll::default());
    view
}

fn overridden(state: OverrideState, lasting: Option<Duration>) -> View {
    let mut set = Override::new(state, "their\nmaintenance").actor("ada");
    if let Some(lasting) = lasting {
        set = set.lasting(lasting);
    }
    let mut view = view(RecordState::Closed);
    view.overridden.version = 9;
    view.overridden.record = Some(set.into());
    view
}

fn published(replica: &str, circuit: &str, state: &str, detached: bool) -> Input {
    let circuit = json!({
        "name": circuit, "state": state, "generation": 7, "since_ms": 60_000,
        "tally": { "calls": 10, "failures": 1, "slow_calls": 0, "consecutive_failures": 0,
                   "unanswered": 0 },
        "detached": detached, "succeeded": 9, "failed": 1, "rejected": 4,
    });
    let said = json!({ "name": replica, "id": replica, "circuits": [circuit] });
    Input::Published(serde_json::from_value(said).unwrap())
}

fn listed(circuits: Vec<(&str, View)>) -> Input {
    Input::Listed(circuits.into_iter().map(|(name, view)| (name.to_owned(), Ok(view))).collect())
}

fn model(inputs: impl IntoIterator<Item = Input>) -> Model {
    let mut model = Model::new(Some("ada".to_owned()));
    for input in inputs {
        model.apply(secs(1), input);
    }
    model
}

fn press(model: &mut Model, code: KeyCode) -> Vec<Effect> {
    model.apply(model.now, Input::Key(KeyEvent::new(code, KeyModifiers::NONE)))
}

fn types(model: &mut Model, text: &str) -> Vec<Effect> {
    text.chars().flat_map(|c| press(model, KeyCode::Char(c))).collect()
}

fn drawn(model: &Model, look: Look, (width, height): (u16, u16)) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw::whole(frame, model, look)).unwrap();
    terminal.backend().buffer().clone()
}

fn lines(model: &Model, size: (u16, u16)) -> Vec<String> {
    let buffer = drawn(model, PLAIN, size);
    let rows = buffer.content.chunks(usize::from(size.0));
    rows.map(|row| row.iter().map(ratatui::buffer::Cell::symbol).collect()).collect()
}

fn screen(model: &Model) -> String {
    lines(model, (140, 40)).join("\n")
}

#[track_caller]
fn shows(model: &Model, texts: &[&str]) {
    let screen = screen(model);
    for text in texts {
        assert!(screen.contains(text), "{text:?} is not on the screen:\n{screen}");
    }
}

#[test]
fn every_state_has_its_word_its_symbol_and_what_comes_next() {
    for (view, texts) in [
        (
            open(),
            &["# payments", "open", "probes in 20s", "12 of 20 calls failed", "60 % of 20"][..],
        ),
        (half_open(), &["% payments", "half-open", "2 probing, 1/2 ok", "2 of 3 probes out"]),
        (suspect(), &["^ payments", "suspect", "failures add up"]),
        (
            overridden(OverrideState::ForcedOpen, Some(secs(600))),
            &["X payments", "forced open", "ends in 10m", r"ada: their\nmaintenance"],
        ),
        (
            overridden(OverrideState::ForcedClosed, None),
            &["= payments", "forced closed", "until it is reset"],
        ),
        (overridden(OverrideState::Disabled, None), &["o payments", "disabled"]),
    ] {
        shows(&model([listed(vec![("payments", view)])]), texts);
    }
    shows(
        &model([listed(vec![]), published("web-1", "payments", "closed", false)]),
        &[
            " no circuit rejects calls",
            ". payments",
            "closed",
            "1m00s",
            "10 % of 10",
            "web-1 closed for 1m",
        ],
    );
    let unreadable = Err("the record\nhas no state".to_owned());
    let unreadable = Input::Listed(vec![("payments".to_owned(), unreadable)]);
    let unreadable = model([unreadable]);
    shows(&unreadable, &["? payments", "unreadable", r"the record\nhas no state"]);
    shows(&unreadable, &[" no readable circuit rejects calls; 1 is unreadable"]);
    shows(&model([]), &["reading the circuits"]);
    shows(&model([listed(vec![])]), &["every circuit is closed"]);
}

#[test]
fn what_is_wrong_comes_first_however_it_is_sorted() {
    let mut model = model([
        published("web-1", "a", "closed", false),
        listed(vec![
            ("b", suspect()),
            ("c", overridden(OverrideState::Disabled, None)),
            ("z", open()),
            ("y", half_open()),
        ]),
    ]);
    for _ in 0..4 {
        let names: String = model.rows().iter().map(|row| row.name.clone()).collect();
        assert!(["zycba", "yzcba"].contains(&&*names), "{names}");
        press(&mut model, KeyCode::Char('s'));
    }
    shows(&model, &[" 2 circuits reject calls: y, z"]);
}

#[test]
fn numbers_are_those_of_all_replicas() {
    let model =
        model([published("web-1", "a", "closed", false), published("web-2", "a", "closed", false)]);
    let rows = model.rows();
    assert_eq!((rows[0].rejected, rows[0].failures), (Some(8), Some((2, 20))));
}

#[test]
fn a_replica_that_decides_otherwise_is_shown_with_what_it_rejects() {
    let model = model([
        listed(vec![]),
        published("web-1", "a", "closed", false),
        published("web-2", "a", "open", true),
    ]);
    shows(
        &model,
        &[
            " 1 circuit rejects calls: a",
            "1 of 2 replicas disagree (open, detached)",
            "web-2 open for 1m, detached: it decides without Redis; it disagrees",
        ],
    );
}

#[test]
fn since_is_known_from_the_history_or_from_replicas() {
    let mut model = model([listed(vec![("a", open())]), published("web-1", "a", "open", false)]);
    assert_eq!(model.rows()[0].since, Some(secs(60)));
    let effects = model.apply(secs(1), Input::Tick);
    assert_eq!(effects, [Effect::ReadPast(name("a"))], "its past is read once");
    assert_eq!(model.apply(secs(2), Input::Tick), []);
    let entry = Transition::new(State::Closed, State::Open, Reason::FailureRate, 7);
    let past = vec![HistoryEntry::new(secs(100), entry)];
    model.apply(secs(2), Input::Past(name("a"), Ok(past)));
    model.apply(secs(12), Input::Tick);
    assert_eq!(model.rows()[0].since, Some(secs(110)));
    shows(&model, &["closed -> open", "1m 50s ago"]);

    // A new generation has a past of its own.
    let mut again = open();
    again.generation = 8;
    model.apply(secs(20), Input::Changed("a".to_owned(), Box::new(again)));
    assert_eq!(model.apply(secs(20), Input::Tick), [Effect::ReadPast(name("a"))]);
}

#[test]
fn time_passes_without_news() {
    let brief = overridden(OverrideState::ForcedOpen, Some(secs(5)));
    let mut model = model([listed(vec![("a", open()), ("b", brief)])]);
    model.apply(secs(4), Input::Tick);
    shows(&model, &["probes in 17s", "ends in 2.0s", "2 circuits reject calls"]);
    model.apply(secs(60), Input::Tick);
    // The override has ended; the open interval too, but only a call probes.
    shows(&model, &["next call probes", "1 circuit rejects calls: a"]);
}

#[test]
fn what_is_older_than_what_is_known_changes_nothing() {
    let mut newer = open();
    newer.generation = 9;
    let mut model = model([listed(vec![("a", newer)])]);
    model.apply(secs(1), Input::Changed("a".to_owned(), Box::new(half_open())));
    assert_eq!(model.rows()[0].state, Some(State::Open));
    let mut closed = View::default();
    closed.generation = 10;
    model.apply(secs(1), Input::Changed("a".to_owned(), Box::new(closed)));
    assert!(model.rows().is_empty());
}

#[test]
fn a_backend_that_does_not_answer_is_said_and_what_is_shown_stays() {
    let mut model = model([listed(vec![("a", open())]), published("web-1", "b", "closed", false)]);
    model.apply(secs(2), Input::Away("connection\nrefused".to_owned()));
    model.apply(secs(32), Input::Tick);
    let away = r"REDIS DOES NOT ANSWER since 30s: connection\nrefused. What is shown is 31s old";
    shows(&model, &[away, "1 circuit rejects calls: a", ". b"]);
    assert_eq!(model.apply(secs(32), Input::Tick), [], "nothing is asked meanwhile");
    model.apply(secs(40), listed(vec![]));
    model.apply(secs(41), Input::Tick);
    shows(&model, &["Redis answers", "no circuit rejects calls", ". b"]);
    // Replicas that have not come back by then are gone.
    model.apply(secs(60), Input::Tick);
    assert!(model.rows().is_empty());
}

#[test]
fn silent_and_impaired_replicas_are_counted() {
    let replica = |json| serde_json::from_value::<ReplicaInfo>(json).unwrap();
    let model = model([
        listed(vec![]),
        Input::Replicas(vec![
            replica(json!({ "name": "a", "id": "1", "version": "1", "silent_for_ms": 0,
                            "impaired": "x" })),
            replica(json!({ "name": "b", "id": "2", "version": "1", "silent_for_ms": 9000,
                            "impaired": "" })),
        ]),
    ]);
    shows(&model, &["2 replicas, 1 silent, 1 impaired"]);
}

#[test]
fn an_override_needs_a_reason_a_time_and_a_yes() {
    let mut model = model([listed(vec![("a", open()), ("b", open())])]);
    press(&mut model, KeyCode::End);
    types(&mut model, "o");
    shows(&model, &["force open b, why?"]);
    press(&mut model, KeyCode::Enter);
    shows(&model, &["[a reason is needed, for those who see it later]"]);
    // What is pasted is one text: its lines answer nothing.
    model.apply(secs(1), Input::Pasted("their\nfault\x1b".to_owned()));
    press(&mut model, KeyCode::Enter);
    shows(&model, &["force open b, for how long? (empty: until it is reset) 10m"]);
    types(&mut model, "x");
    press(&mut model, KeyCode::Enter);
    shows(&model, &["[expected a number and a unit"]);
    press(&mut model, KeyCode::Backspace);
    press(&mut model, KeyCode::Enter);
    shows(&model, &["force open b for 10m: every replica rejects its calls. y or n?"]);
    // Rows move, and Enter is pressed twice: neither does anything.
    model.apply(secs(1), listed(vec![("a", open())]));
    assert_eq!(press(&mut model, KeyCode::Enter), []);
    let set =
        Override::new(OverrideState::ForcedOpen, "theirfault").actor("ada").lasting(secs(600));
    let change = OverrideChange::Set(set.into());
    assert_eq!(types(&mut model, "y"), [Effect::Change(name("b"), "force open", change)]);

    let done = Ok(Box::new(overridden(OverrideState::ForcedOpen, None)));
    model.apply(secs(2), Input::Done(name("b"), "force open", done));
    shows(&model, &["b is forced open: override by ada", "2 circuits reject calls: a, b"]);
    model.apply(secs(3), Input::Done(name("b"), "force open", Err("no\x07".to_owned())));
    shows(&model, &[r"cannot force open b: no\u{7}"]);
    model.apply(secs(20), Input::Tick);
    shows(&model, &["? help"]);
}

#[test]
fn what_is_not_confirmed_is_not_done() {
    for keys in ["rn", "r\x1b", "cx\n\n\x1b", "dx\n\nn", "rq"] {
        let mut model = model([listed(vec![("a", open())])]);
        press(&mut model, KeyCode::Down);
        for key in keys.chars() {
            let effects = match key {
                '\n' => press(&mut model, KeyCode::Enter),
                '\x1b' => press(&mut model, KeyCode::Esc),
                c => press(&mut model, KeyCode::Char(c)),
            };
            assert_eq!(effects, [], "{keys:?}");
        }
    }
    let mut model = model([listed(vec![("a", open())])]);
    press(&mut model, KeyCode::Down);
    types(&mut model, "r");
    shows(&model, &["reset a: its override ends, and it closes on every replica. y or n?"]);
    let reset = Effect::Change(name("a"), "reset", OverrideChange::Reset);
    assert_eq!(types(&mut model, "y"), [reset]);
}

#[test]
fn a_search_finds_names_whatever_their_case() {
    let mut model = model([listed(vec![("Payments", open()), ("quotes", open())])]);
    types(&mut model, "/payMq");
    assert!(matches!(model.mode, Mode::Search), "q is a letter here");
    shows(&model, &["no circuit matches"]);
    press(&mut model, KeyCode::Backspace);
    assert_eq!(model.rows().len(), 1);
    shows(&model, &["1 circuit rejects calls: Payments", "1 circuit with \"payM\""]);
    press(&mut model, KeyCode::Enter);
    press(&mut model, KeyCode::Esc);
    assert_eq!(model.rows().len(), 2);
    // Esc and `/`, pressed at once.
    press(&mut model, KeyCode::Enter);
    let both = KeyEvent::new(KeyCode::Char('/'), KeyModifiers::ALT);
    model.apply(secs(1), Input::Key(both));
    assert!(matches!(model.mode, Mode::Search) && model.enlarged.is_none());
    press(&mut model, KeyCode::Esc);
    assert_eq!(types(&mut model, "q"), [Effect::Quit]);
    let ctrl_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    types(&mut model, "/");
    assert_eq!(model.apply(secs(1), Input::Key(ctrl_c)), [Effect::Quit]);
}

#[test]
fn the_selected_circuit_stays_selected_when_rows_move() {
    let mut model = model([listed(vec![("a", suspect()), ("b", suspect())])]);
    press(&mut model, KeyCode::End);
    model.apply(secs(1), Input::Changed("b".to_owned(), Box::new(open())));
    let rows = model.rows();
    assert_eq!((rows[0].name.as_str(), model.position(&rows)), ("b", Some(0)));
    press(&mut model, KeyCode::Enter);
    let details = screen(&model);
    assert!(details.contains("b is open") && !details.contains("CIRCUIT"), "{details}");
}
