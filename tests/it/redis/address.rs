//! Addresses of Redis: which URLs are accepted, and that no error has_secret a secret.

use tower_breaker::backend::RedisConfig;
use tower_breaker::config::Config;

#[test]
fn an_invalid_url_is_refused_with_every_problem_and_no_secret() {
    let wrong = |url: &str| {
        let error = RedisConfig::from_url(url).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        error.problems().to_vec()
    };
    assert_eq!(wrong("redis-cluster://u:hunter2@host:0/3?color=red").len(), 3);
    for url in [
        "http://u:hunter2@host",
        "redis://",
        "redis://u:hunter2@host/first",
        "redis://u:hunter2@host/256",
        "redis://u:hunter2@host:99999",
        "redis://u:hunter2%ff@host",
        "redis://user@host",
        "u:hunter2@host",
        "",
        "redis-sentinel://u:hunter2@host",
        "redis-sentinel://host?node=a:b&sentinelServiceName=main&sentinelPassword=hunter2",
        "redis+unix:///tmp/redis.sock?password=hunter2",
    ] {
        assert!(!wrong(url).is_empty(), "{url}");
    }
}

/// The secret in the URLs below.
const SECRET: &str = "Zx9secret";

#[test]
fn no_error_repeats_a_part_of_the_url() {
    // The password is in every part where an unencoded or misplaced password can end up.
    let wrong = [
        "redis://default:?Zx9secret@host:6379/0",
        "redis://default:12?Zx9secret@host:6379/0",
        "redis://default:12?Zx9secret=1@host:6379/0",
        "redis://default:12?node=Zx9secret@host:6379/0",
        "redis://default:12?node=h:1&Zx9secret@host:6379/0",
        "redis://default:12?sentinelServiceName=x&sentinelPassword=a&Zx9secret=b",
        "redis://default:#Zx9secret@host:6379/0",
        "redis://default:12#Zx9secret@host:6379/0",
        "redis://host:6379/0#Zx9secret",
        "redis://default:/Zx9secret@host:6379/0",
        "redis://default:12/Zx9secret@host:6379/0",
        "redis://default:Zx9secret/@host:6379/0",
        "redis://default:Zx9secret?@host:6379/0",
        "redis://default:Zx9secret#@host:6379/0",
        "redis://default:Zx9secret%@host:6379/0",
        "redis://default:Zx9secret%zz@host:6379/0",
        "redis://default:Zx9secret%+f@host:6379/0",
        "redis://default:Zx9secret%ff@host:6379/0",
        "redis://Zx9secret%ff:x@host:6379/0",
        "redis://default:a@Zx9secret@host:99999",
        "redis://default:a@Zx9secret:b@host:port",
        "redis://Zx9secret@host:6379/0",
        "redis://Zx9secret:@host:6379/0",
        "redis://Zx9secret/@host:6379/0",
        "redis://Zx9secret?@host:6379/0",
        "redis://:Zx9secret@",
        "redis://:Zx9secret@/0",
        "redis://:Zx9secret@:6379/0",
        "redis://u:Zx9secret@host:port/0",
        "redis://u:Zx9secret@host:0/0",
        "redis://u:Zx9secret@host name/0",
        "redis://u:Zx9secret@[::1/0",
        "redis://u:Zx9secret@h1:1,h2:2/0",
        "redis://u:Zx9secret@host/Zx9secret",
        "redis:u:Zx9secret@host",
        "redis:/u:Zx9secret@host",
        "http://u:Zx9secret@host",
        "Zx9secret://host",
        "Zx9secret:@host:6379",
        "u:Zx9secret@host:6379",
        ":Zx9secret@host:6379",
        "Zx9secret@host:6379",
        "Zx9secret",
        "\"redis://u:Zx9secret@host\"",
        "redis-cluster://u:Zx9secret@host/1?node=b:7",
        "redis-cluster://host?node=u:Zx9secret@b:7",
        "redis-cluster://host?node=redis://u:Zx9secret@b:7",
        "redis-cluster://host?node=Zx9secret@b:7",
        "redis-cluster://host?node=b:Zx9secret",
        "redis-cluster://host?node=b/Zx9secret",
        "redis-cluster://host?node=b%3FZx9secret",
        "redis-cluster://host?node=b%2523Zx9secret%23",
        "redis-cluster://host?node=Zx9secret%ff",
        "redis-cluster://host?password=Zx9secret",
        "redis-cluster://host?Zx9secret",
        "redis-sentinel://u:Zx9secret@host",
        "redis-sentinel://host?sentinelPassword=Zx9secret",
        "redis-sentinel://host?sentinelServiceName=m&sentinelPassword=a#Zx9secret",
        "redis-sentinel://host?sentinelServiceName=m&sentinelPassword=a&Zx9secret",
        "redis-sentinel://host?sentinelServiceName=m&sentinelPassword=Zx9secret%ff",
        "redis-sentinel://host?sentinelServiceName=m&sentinelUsername=Zx9secret%",
        "redis-sentinel://host?sentinelServiceName=Zx9secret%zz",
    ];
    let has_secret = |text: &str| text.to_lowercase().contains(&SECRET.to_lowercase());
    for url in wrong {
        let error = RedisConfig::from_url(url).expect_err(url);
        let shown = format!("{error} {error:?} {:?}", error.problems());
        assert!(!has_secret(&shown), "{url}: {shown}");

        let error = Config::from_vars([("CIRCUIT_BREAKER_REDIS_URL", url)]).expect_err(url);
        let shown = format!("{error} {error:?} {:?}", error.problems());
        assert!(!has_secret(&shown), "{url}: {shown}");
        assert!(shown.contains("CIRCUIT_BREAKER_REDIS_URL"), "{url}: {shown}");
    }
    let right = [
        "redis://u:Zx9secret@host:6379/0",
        "redis://:Zx9secret@host",
        "redis://u:a@Zx9secret@host",
        "redis://u:a:Zx9secret@host",
        "redis://u:%3FZx9secret%23@host",
        "redis-sentinel://host?sentinelServiceName=m&sentinelPassword=Zx9secret",
    ];
    for url in right {
        let config = RedisConfig::from_url(url).expect(url);
        assert!(!has_secret(&format!("{config:?}")), "{url}: {config:?}");
        let config = Config::from_vars([("CIRCUIT_BREAKER_REDIS_URL", url)]).expect(url);
        assert!(!has_secret(&format!("{config:?}")), "{url}: {config:?}");
    }
    for parts in [
        RedisConfig::new("redis://u:Zx9secret@host", 6379),
        RedisConfig::new("u:Zx9secret@host", 6379),
        RedisConfig::cluster([("host", 1), ("host/Zx9secret", 2)]),
    ] {
        let shown = format!("{parts:?} {}", parts.check().unwrap_err());
        assert!(!has_secret(&shown), "{shown}");
    }
}

#[test]
fn a_url_has_the_same_meaning_as_its_parts() {
    let good = "redis-sentinel://u%40:hunter%322@[::1]/2?node=b:7&node=c&node=[::2]:8&node=[::3]\
                &sentinelServiceName=main&sentinelUsername=s&sentinelPassword=a+b%2F%26";
    let config: RedisConfig = good.parse().unwrap();
    let hosts = [("::1", 26379), ("b", 7), ("c", 26379), ("::2", 8), ("::3", 26379)];
    let expected = RedisConfig::sentinel("main", hosts)
        .username("u@")
        .password("hunter22")
        .sentinel_username("s")
        .sentinel_password("a+b/&")
        .database(2);
    assert_eq!(config, expected);
    assert!(!format!("{config:?}").contains("hunter2"));
    for prefix in ["", "a b", "a{b", &"x".repeat(65)] {
        assert_eq!(
            RedisConfig::new("host", 1).key_prefix(prefix).check().unwrap_err().problems().len(),
            1
        );
    }
}
