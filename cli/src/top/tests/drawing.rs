//! Whatever is drawn, and wherever.

use ratatui::style::Color;

use super::*;

#[test]
fn nothing_from_outside_acts_on_the_terminal_and_colour_says_nothing_by_itself() {
    let evil = "<script>\x1b[2J\n\u{9b}31m\u{202e}";
    let mut model = model([
        listed(vec![(evil, open()), ("b", overridden(OverrideState::Disabled, None))]),
        published(evil, evil, "closed", true),
        Input::Away(evil.to_owned()),
    ]);
    for key in ['o', '\x1b', 'w'] {
        for look in [PLAIN, COLOURED] {
            let buffer = drawn(&model, look, (140, 40));
            for cell in &buffer.content {
                assert!(!cell.symbol().contains(|c: char| c.is_control() || c == '\u{202e}'));
                let coloured = cell.fg != Color::Reset || cell.bg != Color::Reset;
                assert!(look.colours || !coloured, "{cell:?}");
            }
        }
        shows(&model, &[r"<script>\u{1b}[2J\n\u{9b}31m\u{202e}"]);
        press(&mut model, if key == '\x1b' { KeyCode::Esc } else { KeyCode::Char(key) });
    }
    // Without colours it has the same letters.
    let text = |look| {
        let buffer = drawn(&model, look, (140, 40));
        buffer.content.iter().map(|cell| cell.symbol().to_owned()).collect::<String>()
    };
    assert_eq!(text(PLAIN), text(Look { colours: true, unicode: false }));
}

#[test]
fn every_size_of_a_terminal_can_be_drawn() {
    let mut all = model([
        listed(vec![("a", open()), ("b", suspect()), ("ä".repeat(99).as_str(), half_open())]),
        published("web-1", "a", "closed", true),
    ]);
    for keys in ["", "?", "x/abc", "\n", "\n", "o", "x\n\n"] {
        for key in keys.chars() {
            let code = if key == '\n' { KeyCode::Enter } else { KeyCode::Char(key) };
            press(&mut all, code);
        }
        for size in [(1, 1), (3, 2), (10, 3), (20, 5), (40, 10), (80, 24), (99, 18), (300, 100)] {
            drawn(&all, COLOURED, size);
        }
    }
}

#[test]
fn thousands_of_circuits_are_one_screen() {
    let many: Vec<_> = (0..5000).map(|n| format!("circuit-{n:04}")).collect();
    let views = many.iter().map(|name| (name.as_str(), suspect())).collect();
    let mut model = model([listed(views)]);
    press(&mut model, KeyCode::End);
    let lines = lines(&model, (120, 30));
    assert!(lines.iter().any(|line| line.contains(">^ circuit-4999")), "{lines:#?}");
    let effects = model.apply(secs(2), Input::Tick);
    assert_eq!(effects.len(), 4, "the past is read a few at a time: {effects:?}");
    types(&mut model, "/0042");
    assert_eq!(model.rows().len(), 1);
}
