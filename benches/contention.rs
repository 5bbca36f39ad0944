//! What becomes of the cost when two threads share a circuit: see `README.md`.

use std::borrow::Cow;
use std::hint::black_box;
use std::time::Duration;

use tower::{Layer, Service};
use tower_breaker::circuit::Permit;
use tower_breaker::policy::Cancelled;
use tower_breaker::{
    CircuitBreaker, CircuitBreakerLayer, ErrorsAsFailures, Outcome, Policy, Store,
};
use tower_breaker_benches::peers::{self, LONG};
use tower_breaker_benches::report;
use tower_breaker_benches::rounds::{Calls, Options, median, together};
use tower_breaker_benches::services::{Plain, call, calls, poll, repeat, trip};

const BARE: &str = "bare service";
const DEFAULT: &str = "tower-breaker, default policy";
const CONSECUTIVE: &str = "tower-breaker, consecutive failures only";
const CLONED: &str = "tower-breaker, clone per request";
const CLONED_NAME: &str = "tower-breaker, clone per request, name from a `String`";

/// More circuits than fit the first cache.
const MANY: usize = 1_000;

/// As many as there may be by default.
const KEYS: u64 = 10_000;
const ONE_KEY: &str = "tower-breaker, keyed, one key";
const ALL_KEYS: &str = "tower-breaker, keyed, 10000 keys";

struct Subject {
    name: &'static str,
    /// Whether calls pass, or are all rejected.
    passes: bool,
    /// Makes what a thread runs; the argument is the number of the thread.
    worker: Box<dyn Fn(usize) -> Calls<'static>>,
}

/// Nanoseconds per call and thread, round by round.
#[derive(Default)]
struct Costs {
    one: Vec<f64>,
    two: Vec<f64>,
}

fn main() {
    let options = Options::from_args(Duration::from_millis(40));
    let mut subjects = subjects();
    subjects.retain(|subject| subject.name == BARE || options.wants(subject.name));
    let costs = measure(&subjects, &options);
    print(&subjects, &costs);
    if !options.smoke {
        println!();
        judge(&subjects, &costs);
    }
}

fn subjects() -> Vec<Subject> {
    let mut subjects = vec![shared(BARE, Plain)];
    subjects.extend(ours());
    subjects.extend(results());
    subjects.extend(peers());
    subjects
}

fn subject(
    name: &'static str,
    passes: bool,
    worker: impl Fn(usize) -> Calls<'static> + 'static,
) -> Subject {
    Subject { name, passes, worker: Box::new(worker) }
}

/// A service of which each thread has a clone.
fn shared<S>(name: &'static str, service: S) -> Subject
where
    S: Service<u64> + Clone + Send + 'static,
{
    subject(name, true, move |_| worker(service.clone()))
}

/// The same, and each call is made on a clone of that clone.
fn cloned<S>(name: &'static str, service: S) -> Subject
where
    S: Service<u64> + Clone + Send + 'static,
{
    subject(name, true, move |_| {
        let service = service.clone();
        Box::new(move |n| repeat(n, |n| black_box(call(&mut service.clone(), n)).is_ok()))
    })
}

/// The same, and no call passes.
fn tripped<S>(name: &'static str, mut service: S) -> Subject
where
    S: Service<u64> + Clone + Send + 'static,
{
    trip(&mut service);
    subject(name, false, move |_| worker(service.clone()))
}

fn worker<S: Service<u64> + Send + 'static>(mut service: S) -> Calls<'static> {
    Box::new(move |n| calls(&mut service, n))
}

fn layer() -> CircuitBreakerLayer<ErrorsAsFailures> {
    // A store each, so that each has a circuit of its own.
    CircuitBreakerLayer::new(Store::in_memory()).named("benched").classify(ErrorsAsFailures)
}

/// Calls of so many keys, in an order that no cache foresees; all of them have their circuit.
fn keyed(name: &'static str, keys: u64) -> Subject {
    let texts: Vec<_> = (0..KEYS).map(|key| format!("host-{key}.example.com")).collect();
    let texts: &'static [String] = texts.leak();
    let layer = layer().keyed_by_fn(move |request: &u64| {
        let key = request.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        Some(Cow::Borrowed(texts[(key % keys) as usize].as_str()))
    });
    let mut service = layer.layer(Plain);
    calls(&mut service, 20 * keys);
    shared(name, service)
}

fn default() -> CircuitBreaker<Plain, ErrorsAsFailures> {
    layer().layer(Plain)
}

fn ours() -> Vec<Subject> {
    let consecutive = Policy::builder().consecutive_failures(5).no_window().build();
    let consecutive = consecutive.expect("a policy that can work");
    let open = Policy::builder().open_for(LONG).build().expect("a policy that can work");
    let counted_name = || layer().named("benched".to_owned());
    let store = Store::in_memory();
    let many: Vec<_> = (0..MANY)
        .map(|number| {
            let layer = CircuitBreakerLayer::new(store.clone()).named(format!("circuit {number}"));
            layer.classify(ErrorsAsFailures).layer(Plain)
        })
        .collect();
    vec![
        shared(DEFAULT, default()),
        shared(CONSECUTIVE, layer().policy(consecutive).layer(Plain)),
        cloned(CLONED, default()),
        cloned(CLONED_NAME, counted_name().layer(Plain)),
        tripped("tower-breaker, open, default mode", layer().policy(open.clone()).layer(Plain)),
        tripped(
            "tower-breaker, open, name from a `String`",
            counted_name().policy(open).layer(Plain),
        ),
        keyed(ONE_KEY, 1),
        keyed(ALL_KEYS, KEYS),
        subject("tower-breaker, a circuit per thread", true, |_| worker(default())),
        subject("tower-breaker, 1000 circuits in turn", true, move |thread| {
            let mut services = many.clone();
            // Where one thread is the other was half a turn ago.
            let mut at = thread * MANY / 2;
            Box::new(move |n| {
                repeat(n, |n| {
                    at = if at + 1 < MANY { at + 1 } else { 0 };
                    black_box(call(&mut services[at], n)).is_ok()
                })
            })
        }),
    ]
}

/// Calls that end in other ways than with a success, by permits, under a policy that they do not
/// trip.
fn results() -> Vec<Subject> {
    fn succeed(permit: Permit) {
        permit.settle(Outcome::Success);
    }

    fn fail(permit: Permit) {
        permit.settle(Outcome::failure());
    }

    fn ending(name: &'static str, policy: Policy, end: fn(u64, Permit)) -> Subject {
        let circuit = Store::in_memory().circuit_with("benched", policy);
        subject(name, true, move |_| {
            let circuit = circuit.clone();
            Box::new(move |n| {
                repeat(n, |n| circuit.try_acquire().map(|permit| end(n, permit)).is_ok())
            })
        })
    }
    let tolerant = || Policy::only().failure_count(u64::MAX);
    let policy = tolerant().build().expect("a policy that can work");
    let forgetful = tolerant().cancelled(Cancelled::Ignored).build();
    vec![
        ending("permits, every call succeeds", policy.clone(), |_, it| succeed(it)),
        ending("permits, every call fails", policy.clone(), |_, it| fail(it)),
        ending("permits, one call in ten fails", policy.clone(), |n, it| {
            if n % 10 == 0 { fail(it) } else { succeed(it) }
        }),
        ending("permits, every result is ignored", policy.clone(), |_, it| {
            it.settle(Outcome::Ignored);
        }),
        ending("permits, one call in two is cancelled", policy.clone(), |n, it| {
            if n % 2 == 0 { drop(it) } else { succeed(it) }
        }),
        ending("permits, one call in ten is cancelled", policy, |n, it| {
            if n % 10 == 0 { drop(it) } else { succeed(it) }
        }),
        ending(
            "permits, every call is cancelled, which the policy ignores",
            forgetful.expect("a policy that can work"),
            |_, it| drop(it),
        ),
    ]
}

fn peers() -> Vec<Subject> {
    let breaker = peers::breaker();
    vec![
        shared("recloser", peers::recloser()),
        shared("failsafe", peers::failsafe()),
        shared("failsafe, consecutive failures only", peers::failsafe_consecutive()),
        shared("breaker, its layer", peers::breaker_layer()),
        subject("breaker, `call` without tower", true, move |_| {
            let breaker = breaker.clone();
            Box::new(move |n| {
                repeat(n, |n| black_box(poll(breaker.call(|| Plain.call(n)))).is_ok())
            })
        }),
        shared("tower-resilience", peers::tower_resilience()),
        tripped("recloser, open", peers::recloser()),
        tripped("failsafe, open", peers::failsafe_consecutive()),
        tripped("breaker, its layer, open", peers::breaker_layer()),
        // Not tower-resilience: where another thread has its lock, it sleeps for a millisecond, on
        // a timer of tokio's that is not here.
    ]
}

fn measure(subjects: &[Subject], options: &Options) -> Vec<Costs> {
    let mut costs: Vec<_> = subjects.iter().map(|_| Costs::default()).collect();
    for _ in 0..options.rounds {
        for (subject, costs) in subjects.iter().zip(&mut costs) {
            for (threads, costs) in [(1, &mut costs.one), (2, &mut costs.two)] {
                let workers = (0..threads).map(&subject.worker).collect();
                let (cost, share) = together(workers, options.turn);
                let expected = if subject.passes { 1.0 } else { 0.0 };
                assert_eq!(share, expected, "{}: the share of calls that passed", subject.name);
                costs.push(cost);
            }
        }
    }
    costs
}

fn print(subjects: &[Subject], costs: &[Costs]) {
    let head = ["subject", "ns per call, 1 thread", "2 threads", "ratio"];
    let rows = subjects.iter().zip(costs).map(|(subject, costs)| {
        let (one, two) = (median(&costs.one), median(&costs.two));
        let ratio = format!("{:.2}", two / one);
        vec![subject.name.to_owned(), report::figure(one), report::figure(two), ratio]
    });
    let head = head.map(str::to_owned).to_vec();
    report::table(&std::iter::once(head).chain(rows).collect::<Vec<_>>());
}

/// Holds the results against the limits in `README.md`.
fn judge(subjects: &[Subject], costs: &[Costs]) {
    let find = |name| subjects.iter().position(|it| it.name == name).map(|at| &costs[at]);
    let Some(bare) = find(BARE) else { return };
    for name in [DEFAULT, CONSECUTIVE, CLONED, CLONED_NAME] {
        let Some(costs) = find(name) else { continue };
        // Of what the circuit costs; the bare service would hide a part of what it grows by.
        let one = median(&costs.one) - median(&bare.one);
        let two = median(&costs.two) - median(&bare.two);
        let figure = format!("{name}, two threads, ns over bare");
        report::verdict(&figure, two, 1.5 * one, &format!("1.5 x one thread's {one:.1}"));
    }
    if let (Some(one), Some(all)) = (find(ONE_KEY), find(ALL_KEYS)) {
        let (one, all) = (median(&one.one), median(&all.one));
        report::verdict(ALL_KEYS, all, 2.0 * one, &format!("2 x one key's {one:.1}"));
    }
}
