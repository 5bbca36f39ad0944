//! The client, set up so that it survives a server that is killed, frozen, or not there yet.

use std::time::Duration;

use fred::clients::Client;
use fred::types::config::{
    Config, ConnectionConfig, PerformanceConfig, ReconnectError, ReconnectPolicy, Server,
    ServerConfig, TcpConfig, UnresponsiveConfig,
};
use fred::types::{Builder, RespVersion};

use super::config::{Mode, RedisConfig};
use crate::backend::BackendError;

pub(super) fn client(config: &RedisConfig) -> Result<Client, BackendError> {
    config.check().map_err(|error| BackendError::refused(error.to_string()))?;
    #[cfg_attr(not(feature = "redis-tls"), expect(unused_mut, reason = "only TLS changes it"))]
    let mut client = Config {
        fail_fast: false,
        version: RespVersion::RESP3,
        server: server(config),
        username: config.credentials.username.clone(),
        password: config.credentials.password.clone(),
        database: (config.database != 0).then_some(config.database),
        ..Config::default()
    };
    #[cfg(feature = "redis-tls")]
    if config.tls {
        client.tls = Some(super::tls::config(config.tls_ca_file.as_deref())?);
    }
    // With a finite number of attempts, the client would be dead after the last.
    let mut reconnect = ReconnectPolicy::new_exponential(0, 20, 1_000, 2);
    reconnect.set_jitter(50);
    Builder::from_config(client)
        .set_performance_config(PerformanceConfig {
            default_command_timeout: config.command_timeout,
            broadcast_channel_capacity: 1024,
            ..PerformanceConfig::default()
        })
        .set_connection_config(ConnectionConfig {
            connection_timeout: Duration::from_millis(500),
            internal_command_timeout: Duration::from_millis(500),
            // A redirect in a cluster needs more than one.
            max_command_attempts: 3,
            // With a bound here, the client would be dead after the first burst.
            max_command_buffer_len: 0,
            reconnect_on_auth_error: true,
            // READONLY: the server we are connected to is no longer the master. LOADING is not
            // here: that server will have loaded.
            reconnect_errors: vec![ReconnectError::ReadOnly, ReconnectError::ClusterDown],
            tcp: TcpConfig { nodelay: Some(true), ..TcpConfig::default() },
            unresponsive: UnresponsiveConfig {
                // Not before a command's own timeout: a server may pause for as long.
                max_timeout: Some(config.background_timeout() + Duration::from_millis(250)),
                interval: Duration::from_millis(60),
            },
            ..ConnectionConfig::default()
        })
        .set_policy(reconnect)
        .build()
        .map_err(|error| BackendError::refused(error.to_string()))
}

fn server(config: &RedisConfig) -> ServerConfig {
    let hosts = config.hosts.clone();
    match &config.mode {
        Mode::Standalone => {
            let [(host, port), ..] = hosts.as_slice() else { unreachable!("checked") };
            ServerConfig::new_centralized(host, *port)
        }
        Mode::Cluster => ServerConfig::new_clustered(hosts),
        Mode::Sentinel { service, credentials } => ServerConfig::Sentinel {
            hosts: hosts.into_iter().map(|(host, port)| Server::new(host, port)).collect(),
            service_name: service.clone(),
            username: credentials.username.clone(),
            password: credentials.password.clone(),
        },
    }
}
