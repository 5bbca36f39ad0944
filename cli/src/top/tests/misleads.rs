//! Nothing misleads an operator.

use super::super::cluster::Link;
use super::*;

#[test]
fn nothing_is_all_clear_while_the_backend_does_not_answer() {
    let never = || Input::Away("connection refused".to_owned());
    let model_of = |inputs: Vec<Input>| {
        let model = model(inputs);
        let screen = screen(&model);
        let connected = model.cluster.link == Link::Connected;
        assert_eq!(screen.starts_with(" no circuit rejects calls"), connected, "{screen}");
        assert!(connected || !screen.contains("every circuit is closed"), "{screen}");
        model
    };
    let model = model_of(vec![never()]);
    let lines = lines(&model, (140, 40));
    assert!(lines[0].starts_with(" not known: Redis does not answer"), "{lines:#?}");
    assert!(lines[3].starts_with(" not known: Redis does not answer"), "{lines:#?}");
    assert!(!screen(&model).contains("What is shown"));
    shows(
        &model_of(vec![listed(vec![]), never()]),
        &[
            " when Redis last answered: no circuit rejects calls",
            " every circuit was closed when Redis last answered",
        ],
    );
    shows(
        &model_of(vec![listed(vec![("a", open())]), never()]),
        &[" when Redis last answered: 1 circuit rejects calls: a"],
    );
    model_of(vec![never(), listed(vec![])]);
}

#[test]
fn a_key_acts_on_no_circuit_that_was_not_selected() {
    let two = || listed(vec![("a", open()), ("b", suspect())]);
    let mut model = model([two()]);
    assert_eq!(types(&mut model, "ry"), [], "the first row may be another one by now");
    shows(&model, &["no circuit is selected; select one", "a is open"]);
    press(&mut model, KeyCode::End);

    // The selected circuit closes while its key is on the way.
    model.apply(secs(1), listed(vec![("a", open())]));
    assert_eq!(types(&mut model, "ry"), []);
    shows(&model, &["no circuit is selected; select one", "b is not among these circuits"]);
    assert!(!screen(&model).contains("a is open"), "the details are of no other circuit");
    model.apply(secs(1), two());
    shows(&model, &["b is closed"]);
    model.apply(secs(1), listed(vec![("a", open())]));
    press(&mut model, KeyCode::Down);
    types(&mut model, "r");
    shows(&model, &["reset a: "]);
}
