//! What a circuit breaker adds to a call, on one thread: see `README.md`.

use std::borrow::Cow;
use std::hint::black_box;
use std::time::Duration;

use http::{HeaderValue, Request, Response, header};
use tower::{Layer, Service};
use tower_breaker::circuit::Permit;
use tower_breaker::policy::Cancelled;
use tower_breaker::{
    CircuitBreaker, CircuitBreakerLayer, ErrorsAsFailures, Outcome, Policy, Store,
};
use tower_breaker_benches::allocations::{self, Counting};
use tower_breaker_benches::peers::{self, LONG};
use tower_breaker_benches::rounds::{Calls, Options, calibrate, median, quantile, time};
use tower_breaker_benches::services::{FAIL, Http, Plain, call, calls, poll, repeat, trip};
use tower_breaker_benches::{clock, instructions, report};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const BARE: &str = "bare service";
const BARE_FAILING: &str = "bare service, one call in ten fails";
const BARE_HTTP: &str = "bare HTTP service";
const BARE_REQUEST: &str = "bare HTTP service, a request with headers";
const CLOCK: &str = "clock read: std `Instant::now`";
const DEFAULT: &str = "tower-breaker, default policy";
const CONSECUTIVE: &str = "tower-breaker, consecutive failures only";
const RECLOSER: &str = "recloser";

/// Longer than a run, and what `Retry-After` says in practice.
const TEN_MINUTES: Duration = Duration::from_secs(600);

/// What becomes of the calls.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Pass,
    OneInTenFails,
    Rejected,
}

struct Subject {
    name: &'static str,
    /// The subject from which the cost is counted; of a rejection, nothing.
    over: Option<&'static str>,
    fate: Fate,
    run: Calls<'static>,
}

/// What was measured of a subject.
struct Measured {
    name: &'static str,
    ours: bool,
    fate: Fate,
    per_call: f64,
    spread: (f64, f64),
    over: Option<f64>,
    allocations: f64,
}

fn main() {
    let options = Options::from_args(Duration::from_millis(20));
    let mut subjects = subjects();
    if let Some((calls, name)) = &options.calls {
        let subject = subjects.iter_mut().find(|it| it.name == *name).expect("a subject");
        black_box((subject.run)(*calls));
        return;
    }
    if options.instructions {
        subjects.retain(|it| it.name.starts_with("tower-breaker") && options.wants(it.name));
        if !count_instructions(&subjects) {
            println!("\nmore than 10 % off: mend it, or write what is so now to instructions.txt");
            std::process::exit(1);
        }
        return;
    }
    let is_base = |name| [BARE, BARE_FAILING, BARE_HTTP, BARE_REQUEST].contains(&name);
    subjects.retain(|subject| is_base(subject.name) || options.wants(subject.name));
    let results = measure(&mut subjects, &options);
    print(&results);
    if !options.smoke {
        println!();
        judge(&results);
    }
}

/// Counts the instructions of each subject, and holds them against those of `instructions.txt`.
/// Returns whether they are about the same.
fn count_instructions(subjects: &[Subject]) -> bool {
    let head = ["subject", "instructions per call", "were"].map(str::to_owned).to_vec();
    let mut rows = vec![head];
    let mut same = true;
    for Subject { name, .. } in subjects {
        let count = instructions::per_call(name).unwrap_or_else(|error| panic!("{error}"));
        let before = instructions::known(name);
        same &= before.is_some_and(|before| (count / before - 1.0).abs() <= 0.1);
        let before = before.map_or_else(|| "–".to_owned(), |before| format!("{before:.0}"));
        rows.push(vec![(*name).to_owned(), format!("{count:.0}"), before]);
    }
    report::table(&rows);
    same
}

fn subjects() -> Vec<Subject> {
    let mut subjects = clocks();
    subjects.push(subject(BARE, None, Fate::Pass, |n| calls(&mut Plain, n)));
    subjects.extend(ours_closed());
    subjects.extend(peers_closed());
    subjects.extend(http());
    subjects.extend(failing());
    subjects.extend(results());
    subjects.extend(keyed());
    subjects.extend(open());
    subjects
}

fn subject(
    name: &'static str,
    over: Option<&'static str>,
    fate: Fate,
    run: impl FnMut(u64) -> u64 + Send + 'static,
) -> Subject {
    Subject { name, over, fate, run: Box::new(run) }
}

/// A service through which all calls pass.
fn closed<S>(name: &'static str, mut service: S) -> Subject
where
    S: Service<u64> + Send + 'static,
{
    subject(name, Some(BARE), Fate::Pass, move |n| calls(&mut service, n))
}

fn clocks() -> Vec<Subject> {
    vec![
        subject(CLOCK, None, Fate::Pass, |n| {
            repeat(n, |_| {
                black_box(clock::now());
                true
            })
        }),
        #[cfg(target_os = "linux")]
        subject("clock read: `CLOCK_MONOTONIC_COARSE`", None, Fate::Pass, |n| {
            repeat(n, |_| {
                black_box(clock::coarse());
                true
            })
        }),
    ]
}

fn layer() -> CircuitBreakerLayer<ErrorsAsFailures> {
    // A store each, so that each has a circuit of its own.
    CircuitBreakerLayer::new(Store::in_memory()).named("benched").classify(ErrorsAsFailures)
}

fn ours() -> CircuitBreaker<Plain, ErrorsAsFailures> {
    layer().layer(Plain)
}

fn ours_with(policy: Policy) -> CircuitBreaker<Plain, ErrorsAsFailures> {
    layer().policy(policy).layer(Plain)
}

fn policy(
    build: impl FnOnce(tower_breaker::policy::PolicyBuilder) -> tower_breaker::policy::PolicyBuilder,
) -> Policy {
    build(Policy::builder()).build().expect("a policy that can work")
}

fn ours_closed() -> Vec<Subject> {
    let consecutive = policy(|it| it.consecutive_failures(5).no_window());
    let count_window = policy(|it| it.count_window(100));
    let slow_calls = policy(|it| it.slow_call_duration(LONG).slow_call_rate(0.5));
    let cloned = ours();
    let circuit = Store::in_memory().circuit("benched");
    vec![
        closed(DEFAULT, ours()),
        closed(CONSECUTIVE, ours_with(consecutive)),
        closed("tower-breaker, count window", ours_with(count_window)),
        closed("tower-breaker, slow calls counted", ours_with(slow_calls)),
        closed("tower-breaker, `Policy::http_api()`", ours_with(Policy::http_api())),
        closed("tower-breaker, `Policy::cache()`", ours_with(Policy::cache())),
        closed("tower-breaker, `reject_in_call`", layer().reject_in_call().layer(Plain)),
        subject("tower-breaker, clone per request", Some(BARE), Fate::Pass, move |n| {
            repeat(n, |n| black_box(call(&mut cloned.clone(), n)).is_ok())
        }),
        subject("tower-breaker, `Circuit::execute`", Some(BARE), Fate::Pass, move |n| {
            repeat(n, |n| black_box(poll(circuit.execute(|| Plain.call(n)))).is_ok())
        }),
    ]
}

fn peers_closed() -> Vec<Subject> {
    let breaker = peers::breaker();
    vec![
        closed(RECLOSER, peers::recloser()),
        closed("failsafe", peers::failsafe()),
        closed("failsafe, consecutive failures only", peers::failsafe_consecutive()),
        closed("breaker, its layer", peers::breaker_layer()),
        subject("breaker, `call` without tower", Some(BARE), Fate::Pass, move |n| {
            repeat(n, |n| black_box(poll(breaker.call(|| Plain.call(n)))).is_ok())
        }),
        closed("tower-resilience", peers::tower_resilience()),
    ]
}

fn http() -> Vec<Subject> {
    fn subject_http<S>(name: &'static str, over: Option<&'static str>, mut service: S) -> Subject
    where
        S: Service<Request<u64>, Response = Response<()>> + Send + 'static,
    {
        subject(name, over, Fate::Pass, move |n| calls_http(&mut service, n))
    }
    let layer = || CircuitBreakerLayer::new(Store::in_memory()).named("benched");
    vec![
        subject_http(BARE_HTTP, None, Http),
        subject(BARE_REQUEST, None, Fate::Pass, |n| {
            repeat(n, |n| black_box(call(&mut Http, request(n))).is_ok_and(|it| is_success(&it)))
        }),
        subject_http("tower-breaker, HTTP, default", Some(BARE_HTTP), layer().layer(Http)),
        subject_http(
            "tower-breaker, HTTP, `respond`",
            Some(BARE_HTTP),
            layer().respond().layer(Http),
        ),
    ]
}

fn calls_http<S>(service: &mut S, calls: u64) -> u64
where
    S: Service<Request<u64>, Response = Response<()>>,
{
    repeat(calls, |n| black_box(call(service, Request::new(n))).is_ok_and(|it| is_success(&it)))
}

fn is_success(response: &Response<()>) -> bool {
    response.status().is_success()
}

/// A request as a server gets it: with headers, and an extension of the connection.
fn request(n: u64) -> Request<u64> {
    let mut request = Request::new(n);
    let headers = request.headers_mut();
    headers.insert(header::HOST, HeaderValue::from_static("api.example.com"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static("bench"));
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    request.extensions_mut().insert(n);
    request
}

fn failing() -> Vec<Subject> {
    fn failing<S>(name: &'static str, over: Option<&'static str>, mut service: S) -> Subject
    where
        S: Service<u64> + Send + 'static,
    {
        subject(name, over, Fate::OneInTenFails, move |n| {
            let requests = [FAIL, 1, 2, 3, 4, 5, 6, 7, 8, 9];
            let tens = (0..n / 10).map(|_| {
                let passed =
                    requests.map(|it| black_box(call(&mut service, black_box(it))).is_ok());
                passed.into_iter().map(u64::from).sum::<u64>()
            });
            tens.sum()
        })
    }
    let over = Some(BARE_FAILING);
    vec![
        failing(BARE_FAILING, None, Plain),
        failing("tower-breaker, one call in ten fails", over, ours()),
        failing("recloser, one call in ten fails", over, peers::recloser()),
        failing(
            "failsafe, consecutive failures only, one call in ten fails",
            over,
            peers::failsafe_consecutive(),
        ),
        failing("breaker, its layer, one call in ten fails", over, peers::breaker_layer()),
        failing("tower-resilience, one call in ten fails", over, peers::tower_resilience()),
    ]
}

/// Calls that end in other ways than with a success, by permits, under a policy that they do not
/// trip.
fn results() -> Vec<Subject> {
    fn ending(name: &'static str, cancelled: Cancelled, end: fn(u64, Permit)) -> Subject {
        let policy = Policy::only().failure_count(u64::MAX).cancelled(cancelled).build();
        let policy = policy.expect("a policy that can work");
        let circuit = Store::in_memory().circuit_with("benched", policy);
        subject(name, None, Fate::Pass, move |n| {
            repeat(n, |n| circuit.try_acquire().map(|permit| end(n, permit)).is_ok())
        })
    }
    fn one_fails_in(calls: u64, n: u64, permit: Permit) {
        let fails = n.is_multiple_of(calls);
        permit.settle(if fails { Outcome::failure() } else { Outcome::Success });
    }
    let counted = Cancelled::FailureIfSlow;
    vec![
        ending("tower-breaker, permits, every call succeeds", counted, |_, it| {
            it.settle(Outcome::Success);
        }),
        ending("tower-breaker, permits, one call in 100 fails", counted, |n, it| {
            one_fails_in(100, n, it);
        }),
        ending("tower-breaker, permits, one call in ten fails", counted, |n, it| {
            one_fails_in(10, n, it);
        }),
        ending("tower-breaker, permits, every call fails", counted, |n, it| one_fails_in(1, n, it)),
        ending("tower-breaker, permits, every result is ignored", counted, |_, it| {
            it.settle(Outcome::Ignored);
        }),
        ending("tower-breaker, permits, one call in ten is cancelled", counted, |n, it| {
            if n % 10 == 0 { drop(it) } else { it.settle(Outcome::Success) }
        }),
        ending(
            "tower-breaker, permits, every call is cancelled, which the policy ignores",
            Cancelled::Ignored,
            |_, it| drop(it),
        ),
    ]
}

/// Calls of so many keys, in an order that no cache foresees.
fn keyed() -> Vec<Subject> {
    const KEYS: u64 = 10_000;
    let texts: Vec<_> = (0..KEYS).map(|key| format!("host-{key}.example.com")).collect();
    let texts: &'static [String] = texts.leak();
    let of = |name: &'static str, keys: u64| {
        let layer = layer().keyed_by_fn(move |request: &u64| {
            let key = request.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            Some(Cow::Borrowed(texts[(key % keys) as usize].as_str()))
        });
        // Made when it runs: other runs need not wait for 10 000 circuits.
        let mut service = None;
        subject(name, Some(BARE), Fate::Pass, move |n| {
            let service = service.get_or_insert_with(|| {
                let mut service = layer.layer(Plain);
                calls(&mut service, 20 * keys);
                service
            });
            calls(service, n)
        })
    };
    vec![of("tower-breaker, keyed, one key", 1), of("tower-breaker, keyed, 10000 keys", KEYS)]
}

fn open() -> Vec<Subject> {
    /// A service through which no call passes any more.
    fn tripped<S>(name: &'static str, mut service: S) -> Subject
    where
        S: Service<u64> + Send + 'static,
    {
        trip(&mut service);
        subject(name, None, Fate::Rejected, move |n| calls(&mut service, n))
    }
    let long = || policy(|it| it.open_for(LONG));
    let forced = ours();
    forced.circuit().force_open("to be measured");
    let named = |name: String| layer().named(name).policy(long()).layer(Plain);
    let mut responding = CircuitBreakerLayer::new(Store::in_memory())
        .named("benched")
        .policy(policy(|it| it.open_for(TEN_MINUTES)))
        .respond()
        .layer(Http);
    for _ in 0..1_000 {
        let _ = call(&mut responding, Request::new(FAIL));
    }
    let mut responding_too = responding.clone();
    vec![
        tripped("tower-breaker, open, default mode", ours_with(long())),
        tripped(
            "tower-breaker, open, `reject_in_call`",
            layer().policy(long()).reject_in_call().layer(Plain),
        ),
        tripped("tower-breaker, open, its name from a `String`", named("benched".to_owned())),
        tripped("tower-breaker, forced open", forced),
        subject("tower-breaker, open, `respond`", None, Fate::Rejected, move |n| {
            calls_http(&mut responding, n)
        }),
        subject(
            "tower-breaker, open, `respond`, a request with headers",
            Some(BARE_REQUEST),
            Fate::Rejected,
            move |n| {
                repeat(n, |n| {
                    black_box(call(&mut responding_too, request(n))).is_ok_and(|it| is_success(&it))
                })
            },
        ),
        tripped("recloser, open", peers::recloser()),
        tripped("failsafe, open", peers::failsafe_consecutive()),
        tripped("breaker, its layer, open", peers::breaker_layer()),
        tripped("tower-resilience, open", peers::tower_resilience()),
    ]
}

fn measure(subjects: &mut [Subject], options: &Options) -> Vec<Measured> {
    let sizes: Vec<_> =
        subjects.iter_mut().map(|it| calibrate(options.turn, &mut it.run)).collect();
    let mut costs = vec![Vec::new(); subjects.len()];
    for _ in 0..options.rounds {
        for ((subject, &calls), costs) in subjects.iter_mut().zip(&sizes).zip(&mut costs) {
            let (cost, passed) = time(calls, &mut subject.run);
            let expected = match subject.fate {
                Fate::Pass => calls,
                Fate::OneInTenFails => calls / 10 * 9,
                Fate::Rejected => 0,
            };
            assert_eq!(passed, expected, "{}: so many of {calls} calls passed", subject.name);
            costs.push(cost);
        }
    }
    let at = |name| subjects.iter().position(|it| it.name == name).expect("a subject");
    let overs: Vec<_> = subjects
        .iter()
        .zip(&costs)
        .map(|(subject, own)| {
            let base = &costs[at(subject.over?)];
            // Round by round, so that a slow round is slow for both.
            let over: Vec<_> = own.iter().zip(base).map(|(own, base)| own - base).collect();
            Some(median(&over))
        })
        .collect();
    let results = subjects.iter_mut().zip(costs).zip(overs);
    results
        .map(|((subject, costs), over)| Measured {
            name: subject.name,
            ours: subject.name.starts_with("tower-breaker"),
            fate: subject.fate,
            per_call: median(&costs),
            spread: (quantile(&costs, 0.25), quantile(&costs, 0.75)),
            over,
            allocations: allocations_of(&mut subject.run),
        })
        .collect()
}

fn allocations_of(run: &mut Calls<'_>) -> f64 {
    const CALLS: u64 = 1_000;
    let before = allocations::count();
    run(CALLS);
    (allocations::count() - before) as f64 / CALLS as f64
}

fn print(results: &[Measured]) {
    let head = ["subject", "ns per call", "middle half", "ns over bare", "allocations per call"];
    let rows = results.iter().map(|it| {
        vec![
            it.name.to_owned(),
            report::figure(it.per_call),
            format!("{:.1} to {:.1}", it.spread.0, it.spread.1),
            it.over.map_or_else(|| "–".to_owned(), report::figure),
            report::figure(it.allocations),
        ]
    });
    let head = head.map(str::to_owned).to_vec();
    report::table(&std::iter::once(head).chain(rows).collect::<Vec<_>>());
}

/// Holds the results against the limits in `README.md`.
fn judge(results: &[Measured]) {
    let find = |name: &str| results.iter().find(|it| it.name == name);
    let (Some(clock), Some(closed), Some(consecutive), Some(recloser)) =
        (find(CLOCK), find(DEFAULT), find(CONSECUTIVE), find(RECLOSER))
    else {
        return println!("not all was measured: no verdict");
    };
    let clock = clock.per_call;
    let read = |more: f64| format!("one clock read {clock:.1} + {more:.0}");
    let [closed, consecutive, recloser] =
        [closed, consecutive, recloser].map(|it| it.over.unwrap_or_default());

    let figure = "closed, default policy, ns over bare";
    report::verdict(figure, closed, clock + 25.0, &read(25.0));
    report::verdict(figure, closed, recloser, &format!("recloser's {recloser:.1}"));
    report::verdict("closed, consecutive failures only, ns over bare", consecutive, 20.0, "20");
    for it in results.iter().filter(|it| it.ours && it.fate == Fate::Rejected) {
        report::verdict(
            &format!("{}, ns per call", it.name),
            it.per_call,
            clock + 10.0,
            &read(10.0),
        );
    }
    let ours = results.iter().filter(|it| it.ours);
    let (none, some): (Vec<_>, Vec<_>) = ours.partition(|it| it.allocations == 0.0);
    for it in some {
        report::verdict(&format!("{}, allocations per call", it.name), it.allocations, 0.0, "0");
    }
    let figure = format!("allocations per call, {} others of ours", none.len());
    report::verdict(&figure, 0.0, 0.0, "0");
}
