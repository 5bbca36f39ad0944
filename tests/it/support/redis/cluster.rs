//! A Redis Cluster of three masters.

use tower_breaker::backend::RedisConfig;

use super::server::Server;
use super::{tag, until};

/// Where the slots of each master begin, and where the last ones end.
const BOUNDS: [u64; 4] = [0, 5461, 10923, 16384];

/// Three masters that share the slots.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Server>,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// Starts nodes with more arguments, as in a configuration file.
    pub(crate) fn with(args: &[&str]) -> Self {
        let own = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
        let args = [&own, args].concat();
        let nodes: Vec<_> = (0..3).map(|_| Server::with(&args)).collect();
        for (node, bound) in nodes.iter().zip(BOUNDS.windows(2)) {
            let slots: Vec<_> = (bound[0]..bound[1]).map(|slot| slot.to_string()).collect();
            // `ADDSLOTSRANGE` is new in Redis 7.0.
            let add = ["CLUSTER", "ADDSLOTS"].into_iter();
            let add: Vec<_> = add.chain(slots.iter().map(String::as_str)).collect();
            assert_eq!(node.cli(&add), "OK");
        }
        let mut checks = 0;
        until("a cluster that agrees", || {
            // Repeated, as a node that does not answer soon is forgotten.
            if checks % 500 == 0 {
                for node in &nodes[1..] {
                    let port = node.port.to_string();
                    assert_eq!(nodes[0].cli(&["CLUSTER", "MEET", "127.0.0.1", &port]), "OK");
                }
            }
            checks += 1;
            nodes.iter().all(|node| {
                let info = node.cli(&["CLUSTER", "INFO"]);
                info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
            })
        });
        Self { nodes }
    }

    /// Which node has a key.
    pub(crate) fn master_of(&self, key: &str) -> usize {
        let slot = self.nodes[0].number(&["CLUSTER", "KEYSLOT", key]);
        BOUNDS[1..].iter().position(|bound| slot < *bound).unwrap()
    }

    /// The name of a circuit whose group this node has.
    pub(crate) fn circuit_on(&self, node: usize) -> String {
        let names = ('a'..='z').map(String::from);
        let mut on_it = names.filter(|name| self.master_of(&tag(name)) == node);
        on_it.next().expect("32 groups are on all nodes")
    }

    pub(crate) fn config(&self) -> RedisConfig {
        RedisConfig::cluster(self.nodes.iter().map(|node| ("127.0.0.1", node.port)))
    }
}
