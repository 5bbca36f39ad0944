//! Records that somebody has edited by hand, and not well.

use tower_breaker::backend::{
    Attention, Backend, BackendError, Group, OverrideChange, Probed, RecordState, Report, Shares,
    View,
};

use super::records::{OPEN, forced, name, report};
use crate::support::redis::{Ask, Server, connect, override_key, real, record};
use crate::support::s;

const NONSENSE: [&str; 9] =
    ["nan", "inf", "-1", "1e300", "0x", "", "9007199254740993", "two", "0.5"];

#[test]
fn a_record_with_invalid_fields_recovers() {
    real(async {
        let server = Server::start();
        let backend = connect(&server.config()).await;
        for (i, nonsense) in NONSENSE.into_iter().enumerate() {
            let circuit = name(&format!("{i}"));
            let key = record(circuit.as_str());
            let opened = backend.transition(&circuit, 1, &OPEN).await.unwrap();
            for field in [
                "until",
                "interval",
                "reopenings",
                "probes",
                "lease",
                "successes",
                "passed",
                "l:7",
                "calls",
                "failures",
                "slow",
                "consecutive",
                "contributors",
                "horizon",
            ] {
                server.cli(&["HSET", &key, field, nonsense]);
            }
            let (lease, view) =
                backend.acquire_probe(&circuit, opened.generation, 1).await.unwrap();
            let lease = lease.unwrap_or_else(|| panic!("{nonsense:?}: {view:?}"));
            let view = backend.settle_probe(&circuit, lease, &Probed::Passed).await.unwrap();
            assert_eq!(view.state, RecordState::Closed, "{nonsense:?}");

            // An invalid generation counts as the first, and a replica with a newer view restores
            // its own.
            for field in
                ["generation", "revision", "streak", "roll", "roll_at", "whole", "votes", "senders"]
            {
                server.cli(&["HSET", &key, field, nonsense]);
            }
            server.cli(&["HSET", &key, "state", "twilight"]);
            let view = backend.load(&circuit).await.unwrap();
            assert_eq!((view.generation, view.state), (1, RecordState::Closed), "{nonsense:?}");
            let restored = backend.restore(&circuit, &opened).await.unwrap();
            assert_eq!(restored.generation, opened.generation, "{nonsense:?}");
        }
    });
}

/// Reports with everything that a report may have, and reads it again.
async fn full_report(
    backend: &impl Ask,
    circuit: &str,
    generation: u64,
    seq: u64,
) -> Result<View, BackendError> {
    let vote = Some(s(10));
    let shares = Shares::Return;
    let attention = Some(Attention::RollCall { after: 0 });
    let full = Report { generation, vote, shares, attention, ..report(circuit, 10) };
    backend.report("r", seq, &full).await
}

#[test]
fn a_closed_record_with_invalid_evidence_begins_anew() {
    // Garbage, and numbers and lists that were packed, but not by us: `{}`, `{1}`, `{"a":1}`,
    // `{"x"}`, and a number.
    let packed = ["\u{7f}\u{1}", "\u{11}\u{1}\u{2}", "\u{1}x", "7"];
    real(async {
        let server = Server::start();
        let backend = connect(&server.config()).await;
        for (i, nonsense) in NONSENSE.into_iter().chain(packed).enumerate() {
            let circuit = format!("{i}");
            let key = record(&circuit);
            let seq = 2 * u64::try_from(i).unwrap();
            full_report(&backend, &circuit, 1, seq + 1).await.unwrap();
            for field in server.cli(&["HKEYS", &key]).lines() {
                if !["schema", "generation", "state"].contains(&field) {
                    server.cli(&["HSET", &key, field, nonsense]);
                }
            }
            let circuit = name(&circuit);
            backend.load(&circuit).await.unwrap_or_else(|e| panic!("{nonsense:?}: {e}"));
            let view = full_report(&backend, circuit.as_str(), 1, seq + 2).await;
            let view = view.unwrap_or_else(|error| panic!("{nonsense:?}: {error}"));
            let tally = view.tally;
            assert_eq!((tally.calls, tally.failures), (90, 10), "{nonsense:?}: {view:?}");
            assert_eq!((tally.consecutive_failures, view.votes), (1, 1), "{nonsense:?}: {view:?}");
            let opened = backend.transition(&circuit, 1, &OPEN).await.unwrap();
            assert_eq!(opened.contributors, ["r"], "{nonsense:?}");
        }
    });
}

#[test]
fn lists_of_wrong_things_in_a_record_harm_no_other_circuit() {
    real(async {
        let server = Server::start();
        let backend = connect(&server.config()).await;
        let [good, bad] = two_of_one_group();
        // Lists as long as ours, but of texts, of lists, and of numbers that cannot be; and one
        // that ends too early.
        let wrong = [
            "return cmsgpack.pack({'a','b','c','d','e','f','g','h'})",
            "return cmsgpack.pack({1,{},{},{},{},{},{},{}})",
            "return cmsgpack.pack({1,'b',3,'d',5,'f',7,'h',9})",
            "return cmsgpack.pack({[{1}]=1,[2]={}})",
            "return cmsgpack.pack({1,-2,-3,-4,5,-6,-7,-8,-9})",
            "return cmsgpack.pack({1,2^60,2^60,2^60,0,2^60,2^60,2^60})",
            "local l = {} for i = 1, 9 do l[i] = 1/0 end return cmsgpack.pack(l)",
            "local l = {} for i = 1, 9 do l[i] = 0/0 end return cmsgpack.pack(l)",
            "local l = {} for i = 1, 8 do l[i] = 1e300 end return cmsgpack.pack(l)",
            "local l = {} for i = 1, 8 do l[i] = 0.5 end return cmsgpack.pack(l)",
            "local l = {} for i = 1, 9 do l[i] = (i - 5) * 1e17 end return cmsgpack.pack(l)",
            "return cmsgpack.pack({a=-1/0,b=1/0,c=-1})",
            "return string.sub(cmsgpack.pack({1,2,3,4}), 1, 3)",
        ];
        let mut seq = 0;
        for wrong in wrong {
            for field in ["streak", "votes", "senders", "w:60000x10", "r:r", "contributors"] {
                full_report(&backend, &bad, 1, seq + 1).await.unwrap();
                full_report(&backend, &good, 1, seq + 2).await.unwrap();
                let script = format!(
                    "redis.call('HSET', KEYS[1], ARGV[1], (function() {wrong} end)()) return 'OK'"
                );
                assert_eq!(server.cli(&["EVAL", &script, "1", &record(&bad), field]), "OK");
                for result in
                    [backend.load(&name(&bad)).await, full_report(&backend, &bad, 1, seq + 3).await]
                {
                    if let Err(error) = result {
                        let clear = error.to_string().contains("corrupt");
                        assert!(clear && !error.is_unavailable(), "{field}: {wrong}: {error}");
                    }
                }
                // The answer has both: they have changed since its cursor.
                backend.load(&name(&good)).await.unwrap();
                let view = full_report(&backend, &good, 1, seq + 4).await.unwrap();
                assert_eq!(view.tally.calls, 180, "{field}: {wrong}");
                server.cli(&["DEL", &record(&bad), &record(&good)]);
                seq += 4;
            }
        }
    });
}

#[test]
fn an_override_with_invalid_fields_harms_nothing_else() {
    real(async {
        let server = Server::start();
        let backend = connect(&server.config()).await;
        let [good, bad] = two_of_one_group();
        let (set, key) = (OverrideChange::Set(forced()), override_key(&bad));
        backend.set_override(&name(&good), &set).await.unwrap();
        let opened = backend.transition(&name(&bad), 1, &OPEN).await.unwrap();
        for nonsense in NONSENSE.into_iter().chain(["\u{0}\"\\", "99999999999999"]) {
            for field in ["version", "until", "state", "reason", "actor"] {
                backend.set_override(&name(&bad), &set).await.unwrap();
                server.cli(&["HSET", &key, field, nonsense]);
                match backend.load(&name(&bad)).await {
                    Ok(view) => assert_eq!(view.generation, opened.generation),
                    // A version that is too far ahead.
                    Err(error) => assert!(error.to_string().contains("corrupt"), "{error}"),
                }
                let view = backend.load(&name(&good)).await.unwrap();
                assert_eq!(view.overridden.record, Some(forced()), "{field}: {nonsense:?}");
                server.cli(&["DEL", &key]);
            }
        }
    });
}

/// The names of two circuits of one group.
pub(crate) fn two_of_one_group() -> [String; 2] {
    let mut names = (0..).map(|n| format!("c{n}"));
    let first = names.next().unwrap();
    let of = |circuit: &str| Group::of(&name(circuit));
    let second = names.find(|other| of(other) == of(&first)).unwrap();
    [first, second]
}
