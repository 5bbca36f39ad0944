//! Scratch.
use std::time::Duration;
use tower_breaker::backend::MemoryBackend;
use tower_breaker::*;
fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}
#[tokio::test(start_paused = true)]
async fn trips_everywhere() {
    let b = MemoryBackend::new();
    let stores: Vec<_> = (0..4)
        .map(|n| Store::builder().backend(b.clone()).replica(format!("r{n}")).build())
        .collect();
    let policy = Policy::builder().consecutive_failures(8).build().unwrap();
    let cs: Vec<_> = stores.iter().map(|s| s.circuit_with("payments", policy.clone())).collect();
    tokio::time::sleep(ms(50)).await;
    println!("{:?}", stores[0].backend());
    for c in &cs {
        for _ in 0..3 {
            c.acquire().await.unwrap().settle(Outcome::failure());
        }
    }
    for i in 0..40 {
        tokio::time::sleep(ms(10)).await;
        let st: Vec<_> = cs.iter().map(|c| c.state()).collect();
        println!("{i} {st:?}");
        if st.iter().all(|s| *s == State::Open) {
            break;
        }
    }
    for c in &cs {
        assert_eq!(c.state(), State::Open);
        println!("{:?}", c.snapshot());
    }
    tokio::time::sleep(ms(40_000)).await;
    let mut granted = 0;
    let mut ps = vec![];
    for c in &cs {
        for _ in 0..3 {
            match c.acquire().await {
                Ok(p) => {
                    granted += 1;
                    ps.push(p)
                }
                Err(e) => println!("{e}"),
            }
        }
    }
    println!("granted {granted}");
    for p in ps {
        p.settle(Outcome::Success);
    }
    tokio::time::sleep(ms(20)).await;
    for c in &cs {
        println!("{:?}", c.state());
    }
    for c in &cs {
        assert_eq!(c.state(), State::Closed);
    }
    cs[1].force_open("x").await.unwrap();
    tokio::time::sleep(ms(5)).await;
    for c in &cs {
        assert_eq!(c.state(), State::ForcedOpen);
    }
    cs[2].clear_override().await.unwrap();
    tokio::time::sleep(ms(5)).await;
    for c in &cs {
        assert_eq!(c.state(), State::Closed);
    }
    assert!(stores[0].shutdown(ms(1000)).await);
    println!("{:?}", stores[0].backend());
}
