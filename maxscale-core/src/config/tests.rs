mod profile;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use super::{
    Config, ConfigBuilder, ConfigError, ConfigErrors, Kind, Origin, Parsed, Problem, Schema,
    Secret, Setting,
};

fn builder() -> ConfigBuilder {
    let schema = Schema::new([
        Setting::new("http.port", Kind::Integer, "").default("3000"),
        Setting::new("http.address", Kind::Text, "").default("127.0.0.1:80"),
        Setting::new("http.body", Kind::Size, "").default("64MiB"),
        Setting::new("startup.wait", Kind::Duration, "").default("30s"),
        Setting::new("shards.nodes", Kind::List, ""),
        Setting::new("shards.migrate", Kind::Enum(&["auto", "check", "off"]), "").default("auto"),
        Setting::new("redis.url", Kind::Url, "").schemes(&["redis", "rediss"]),
        Setting::new("auth.key", Kind::Secret, ""),
        Setting::new("log.filter", Kind::Text, "").default("info"),
        Setting::new("log.color", Kind::Bool, ""),
    ]);
    Config::builder(schema.unwrap())
}

fn environment(variables: &[(&str, &str)]) -> ConfigBuilder {
    let owned = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
    builder().environment(variables.iter().map(owned))
}

/// A folder with `maxscale.toml`; the file's path holds while the folder does.
fn file(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("maxscale.toml");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

fn from_file(text: &str) -> Result<Config, ConfigErrors> {
    let (_folder, path) = file(text);
    builder().file(path).load()
}

/// The one error, as printed.
fn report(loaded: Result<Config, ConfigErrors>) -> String {
    let errors = loaded.unwrap_err();
    assert_eq!(errors.iter().count(), 1, "{errors}");
    errors.to_string()
}

/// The one error in a file of this text, the file's folder left out.
fn report_of_file(text: &str) -> String {
    let (_folder, path) = file(text);
    let report = report(builder().file(&path).load());
    report.replace(path.to_str().unwrap(), "maxscale.toml")
}

#[test]
fn each_layer_wins_over_the_one_before() {
    let (_folder, path) = file("[http]\nport = 1\naddress = \"file\"\nbody = \"1KiB\"");
    let config = environment(&[
        ("MAXSCALE__HTTP__ADDRESS", "env"),
        ("MAXSCALE__HTTP__BODY", "2KiB"),
    ])
    .file(&path)
    .set("http.body", "3KiB")
    .load()
    .unwrap();

    assert_eq!(
        config.get::<Duration>("startup.wait").unwrap(),
        Duration::from_secs(30)
    );
    assert_eq!(config.get::<u16>("http.port").unwrap(), 1);
    assert_eq!(config.get::<String>("http.address").unwrap(), "env");
    assert_eq!(config.get::<u64>("http.body").unwrap(), 3 << 10);

    assert_eq!(config.origin("startup.wait"), Some(&Origin::Default));
    let line = Origin::File { path, line: 2 };
    assert_eq!(config.origin("http.port"), Some(&line));
    let name = "MAXSCALE__HTTP__ADDRESS".to_owned();
    let variable = Origin::Environment { name };
    assert_eq!(config.origin("http.address"), Some(&variable));
    assert_eq!(config.origin("http.body"), Some(&Origin::Code));
    assert_eq!(config.origin("redis.url"), None);
}

#[test]
fn default_value_set_by_hand_counts_as_configured() {
    let config = environment(&[("MAXSCALE__HTTP__PORT", "3000")]).load();
    assert!(config.unwrap().is_configured("http.port"));
    assert!(!builder().load().unwrap().is_configured("http.port"));
    assert!(!builder().load().unwrap().is_configured("redis.url"));
}

#[test]
fn file_gives_every_kind() {
    let config = from_file(
        r#"
        auth.key = "planted"
        [http]
        body = 4096
        port = 0x1F
        [startup]
        wait = "250ms"
        [shards]
        nodes = ["a=postgres://h/1", "b=postgres://h/2"]
        migrate = "off"
        [log]
        color = true
        "#,
    )
    .unwrap();
    assert_eq!(config.get::<u64>("http.body").unwrap(), 4096);
    assert_eq!(config.get::<i64>("http.port").unwrap(), 31);
    assert_eq!(
        config.get::<Duration>("startup.wait").unwrap(),
        Duration::from_millis(250)
    );
    assert_eq!(
        config.get::<Vec<String>>("shards.nodes").unwrap(),
        ["a=postgres://h/1", "b=postgres://h/2"],
    );
    assert_eq!(config.get::<String>("shards.migrate").unwrap(), "off");
    assert_eq!(config.get::<Option<bool>>("log.color").unwrap(), Some(true));
    assert_eq!(
        config.get::<Secret>("auth.key").unwrap().expose(),
        "planted"
    );
}

#[test]
fn list_in_a_variable_is_split_at_commas() {
    let list = |text| {
        environment(&[("MAXSCALE__SHARDS__NODES", text)])
            .load()
            .map(|config| config.get::<Vec<String>>("shards.nodes").unwrap())
    };
    assert_eq!(list("a, b,c").unwrap(), ["a", "b", "c"]);
    assert_eq!(list("").unwrap(), [""; 0]);
    assert!(list("a,,b").is_err());
}

#[test]
fn only_our_variables_are_read() {
    let config = environment(&[
        ("MAXSCALE_TEST_SERVERS", "path"),
        ("HTTP__PORT", "1"),
        ("OTEL_SERVICE_NAME", "x"),
    ])
    .load()
    .unwrap();
    assert_eq!(config.get::<u16>("http.port").unwrap(), 3000);
}

#[test]
fn shared_variables_set_the_log_unless_ours_do() {
    let config = environment(&[("RUST_LOG", "debug"), ("NO_COLOR", "1")]).load();
    let config = config.unwrap();
    assert_eq!(config.get::<String>("log.filter").unwrap(), "debug");
    assert!(!config.get::<bool>("log.color").unwrap());

    let ours = ("MAXSCALE__LOG__FILTER", "warn");
    let config = environment(&[ours, ("RUST_LOG", "debug"), ("NO_COLOR", "")]).load();
    let config = config.unwrap();
    assert_eq!(config.get::<String>("log.filter").unwrap(), "warn");
    assert_eq!(config.get::<Option<bool>>("log.color").unwrap(), None);
}

#[test]
fn variables_of_opentelemetry_set_what_the_schema_has() {
    let schema = Schema::new([
        Setting::new("otel.endpoint", Kind::Url, "").schemes(&["http"]),
        Setting::new("otel.headers", Kind::Secrets, ""),
        Setting::new("otel.attributes", Kind::List, ""),
        Setting::new("otel.service", Kind::Text, ""),
        Setting::new("otel.share", Kind::Text, ""),
    ]);
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-a=planted,x-b=c"),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "deployment.environment.name=test,x=y",
        ),
        ("OTEL_SERVICE_NAME", "shop"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.1"),
    ];
    let owned = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = Config::builder(schema.unwrap()).environment(owned).load();
    let config = config.unwrap();
    let text = |key| config.get::<String>(key).unwrap();
    assert_eq!(text("otel.endpoint"), "http://c:4318");
    assert_eq!(text("otel.service"), "shop");
    assert_eq!(text("otel.share"), "0.1");
    let headers: Vec<Secret> = config.get("otel.headers").unwrap();
    assert_eq!(headers[0].expose(), "x-a=planted");
    let attributes: Vec<String> = config.get("otel.attributes").unwrap();
    assert_eq!(attributes, ["deployment.environment.name=test", "x=y"]);
    assert!(!config.to_string().contains("planted"), "{config}");
}

#[test]
fn secret_is_read_from_the_file_that_a_variable_names() {
    let (_folder, path) = file("plan ted\r\n");
    let path = path.to_str().unwrap();
    let config = environment(&[("MAXSCALE__AUTH__KEY_FILE", path)]).load();
    let config = config.unwrap();
    assert_eq!(
        config.get::<Secret>("auth.key").unwrap().expose(),
        "plan ted"
    );
    let name = "MAXSCALE__AUTH__KEY_FILE".to_owned();
    assert_eq!(
        config.origin("auth.key"),
        Some(&Origin::Environment { name })
    );
}

#[test]
fn list_of_urls_is_read_from_a_named_file_and_masked() {
    let (_folder, path) = file("a=postgres://u:planted@h/a,\nb=postgres://u:planted@h/b\n");
    let path = path.to_str().unwrap();
    let config = environment(&[("MAXSCALE__SHARDS__NODES_FILE", path)]).load();
    let config = config.unwrap();
    assert_eq!(
        config.get::<Vec<String>>("shards.nodes").unwrap(),
        ["a=postgres://u:planted@h/a", "b=postgres://u:planted@h/b"]
    );
    assert!(!config.to_string().contains("planted"), "{config}");
}

#[test]
fn only_kinds_that_may_hold_a_password_are_read_from_named_files() {
    let loaded = environment(&[("MAXSCALE__HTTP__PORT_FILE", "/dev/null")]).load();
    assert!(report(loaded).starts_with("error: unknown environment variable"));
}

#[test]
fn printing_shows_every_value_and_no_secret() {
    let config = environment(&[
        ("MAXSCALE__REDIS__URL", "redis://u:planted@h"),
        (
            "MAXSCALE__SHARDS__NODES",
            "a=postgres://u:planted@h/1|postgres://u:planted@h/2,b=postgres://u:planted@h/3",
        ),
        ("MAXSCALE__AUTH__KEY", "planted"),
    ])
    .load()
    .unwrap();
    let printed = config.to_string();
    assert!(!printed.contains("planted"), "{printed}");
    assert!(!format!("{config:?}").contains("planted"));
    let key = config.get::<Secret>("auth.key");
    assert_eq!(format!("{key:?}"), "Ok(***)");
    assert!(
        printed.contains("http.port = 3000 (default)\n"),
        "{printed}"
    );
    assert!(
        printed.contains("auth.key = *** (environment variable MAXSCALE__AUTH__KEY)\n"),
        "{printed}"
    );
}

#[test]
fn builder_shows_no_value() {
    let builder = environment(&[("MAXSCALE__AUTH__KEY", "planted")]).set("auth.key", "planted");
    assert!(!format!("{builder:?}").contains("planted"));
}

#[test]
fn missing_file_is_an_error_only_when_it_was_asked_for() {
    assert!(builder().optional_file("/no/such/file").load().is_ok());
    assert_eq!(
        report(builder().file("/no/such/file").load()),
        "error: cannot read the configuration file /no/such/file\n\
         where: /no/such/file\n\
         why:   no such file or directory\n\
         do:    check the path and who may read it, or start without this file",
    );
}

#[test]
fn unknown_key_in_a_file_names_its_line_and_the_nearest_key() {
    assert_eq!(
        report_of_file("[http]\nport = 1\nadress = \"planted\""),
        "error: unknown key http.adress\n\
         where: http.adress (maxscale.toml, line 3)\n\
         why:   no setting has this name; the nearest is http.address\n\
         do:    write http.address if it was meant, or remove http.adress",
    );
}

#[test]
fn unknown_section_is_one_error() {
    assert_eq!(
        report_of_file("[htp]\nport = 1\nbody = 1"),
        "error: unknown key htp\n\
         where: htp (maxscale.toml, line 1)\n\
         why:   no setting has this name; the nearest is http\n\
         do:    write http if it was meant, or remove htp",
    );
}

#[test]
fn quoted_key_is_not_taken_for_a_path() {
    let text = report_of_file("\"http.port\" = 1");
    assert!(text.contains("\"http.port\""), "{text}");
}

#[test]
fn unknown_variable_names_the_nearest() {
    assert_eq!(
        report(environment(&[("MAXSCALE__SHARD__NODES", "planted")]).load()),
        "error: unknown environment variable MAXSCALE__SHARD__NODES\n\
         where: MAXSCALE__SHARD__NODES\n\
         why:   no setting has this name; the nearest is MAXSCALE__SHARDS__NODES\n\
         do:    write MAXSCALE__SHARDS__NODES if it was meant, or remove MAXSCALE__SHARD__NODES",
    );
}

#[test]
fn unknown_key_of_the_command_line_names_the_nearest() {
    assert_eq!(
        report(builder().set("http.prot", "1").load()),
        "error: unknown key http.prot\n\
         where: http.prot (set by code or command line)\n\
         why:   no setting has this name; the nearest is http.port\n\
         do:    write http.port if it was meant, or remove http.prot",
    );
}

#[test]
fn broken_toml_names_the_line_and_shows_none_of_it() {
    assert_eq!(
        report_of_file("[auth]\nkey = \"planted\n"),
        "error: cannot understand the configuration file maxscale.toml\n\
         where: maxscale.toml, line 2\n\
         why:   it is not TOML: invalid basic string, expected `\"`\n\
         do:    correct this line",
    );
}

#[test]
fn wrong_value_says_what_to_write() {
    assert_eq!(
        report(environment(&[("MAXSCALE__STARTUP__WAIT", "30")]).load()),
        "error: `startup.wait` cannot be used as it is set\n\
         where: startup.wait = 30 (environment variable MAXSCALE__STARTUP__WAIT)\n\
         why:   the number has no unit\n\
         do:    set a duration such as 250ms, 30s or 5m",
    );
    assert_eq!(
        report_of_file("[shards]\nmigrate = \"of\""),
        "error: `shards.migrate` cannot be used as it is set\n\
         where: shards.migrate = of (maxscale.toml, line 2)\n\
         why:   the value is none of the accepted words\n\
         do:    set one of auto, check, off",
    );
}

#[test]
fn wrong_type_in_a_file_says_what_it_found() {
    let cases = [
        ("http.port = 1.5", "a number with a fraction"),
        ("http.address = 80", "a number"),
        ("log.color = 1979-05-27", "a date or time"),
        (
            "shards.nodes = [1]",
            "an array of something other than texts",
        ),
        ("startup.wait = { s = 1 }", "a table"),
        ("redis.url = true", "true or false"),
        ("shards.migrate = [\"auto\"]", "an array"),
    ];
    for (text, found) in cases {
        let text = report_of_file(text);
        assert!(
            text.contains(&format!("why:   the file gives {found}\n")),
            "{text}"
        );
    }
}

#[test]
fn scheme_of_another_system_is_refused_without_its_password() {
    assert_eq!(
        report(environment(&[("MAXSCALE__REDIS__URL", "postgres://u:planted@h/x")]).load()),
        "error: `redis.url` cannot be used as it is set\n\
         where: redis.url = postgres://u:***@h/x (environment variable MAXSCALE__REDIS__URL)\n\
         why:   the scheme is none of redis, rediss\n\
         do:    set a URL that starts with redis:// or rediss://",
    );
}

#[test]
fn secret_in_the_place_of_a_url_is_not_shown() {
    let text = report(environment(&[("MAXSCALE__REDIS__URL", "planted")]).load());
    assert!(!text.contains("planted"), "{text}");
    let loaded = environment(&[("MAXSCALE__AUTH__KEY_FILE", "planted")]).load();
    assert_eq!(
        report(loaded),
        "error: cannot read the file that MAXSCALE__AUTH__KEY_FILE names\n\
         where: auth.key, from MAXSCALE__AUTH__KEY_FILE\n\
         why:   no such file or directory\n\
         do:    check the path in MAXSCALE__AUTH__KEY_FILE and who may read the file",
    );
}

#[test]
fn empty_variable_is_an_error_where_empty_means_nothing() {
    for name in ["AUTH__KEY", "REDIS__URL", "HTTP__PORT", "LOG__COLOR"] {
        let text = report(environment(&[(&format!("MAXSCALE__{name}"), " ")]).load());
        assert!(text.contains("why:   the value is empty\n"), "{text}");
    }
}

#[test]
fn value_and_file_for_one_setting_are_an_error() {
    let loaded = environment(&[
        ("MAXSCALE__AUTH__KEY", "planted"),
        ("MAXSCALE__AUTH__KEY_FILE", "/dev/null"),
    ]);
    assert_eq!(
        report(loaded.load()),
        "error: MAXSCALE__AUTH__KEY and MAXSCALE__AUTH__KEY_FILE are both set\n\
         where: MAXSCALE__AUTH__KEY, MAXSCALE__AUTH__KEY_FILE\n\
         why:   only one of them can hold\n\
         do:    unset MAXSCALE__AUTH__KEY or MAXSCALE__AUTH__KEY_FILE",
    );
}

#[test]
fn all_errors_of_all_layers_are_told_at_once() {
    let (_folder, path) = file("nonsense = 1\n[http]\nport = \"x\"");
    let errors = environment(&[("MAXSCALE__HTTP__PORT", "80"), ("MAXSCALE__Y", "1")])
        .file(path)
        .set("z", "1")
        .load()
        .unwrap_err();
    let keys: Vec<_> = errors
        .iter()
        .map(|error| match error {
            ConfigError::Unknown { key, .. } => key.as_str(),
            ConfigError::Invalid { key, .. } => key,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(keys, ["nonsense", "MAXSCALE__Y", "z", "http.port"]);
    assert_eq!(errors.to_string().matches("error: ").count(), 4);
}

#[test]
fn number_that_does_not_fit_is_told_with_the_bounds() {
    let config = builder().set("http.port", "70000").load().unwrap();
    assert_eq!(
        config
            .get::<u16>("http.port")
            .unwrap_err()
            .explanation()
            .to_string(),
        "error: `http.port` cannot be used as it is set\n\
         where: http.port = 70000 (set by code or command line)\n\
         why:   the number is not between 0 and 65535\n\
         do:    set a whole number from 0 to 65535",
    );
}

#[test]
fn text_is_parsed_by_the_type_that_is_asked_for() {
    let config = builder().load().unwrap();
    let Parsed(address) = config.get::<Parsed<SocketAddr>>("http.address").unwrap();
    assert_eq!(address.port(), 80);

    let config = builder().set("http.address", "here").load().unwrap();
    let refused = config
        .get::<Parsed<SocketAddr>>("http.address")
        .unwrap_err();
    assert!(matches!(
        refused,
        ConfigError::Invalid {
            problem: Problem::Refused(_),
            ..
        }
    ));
    assert!(
        refused
            .explanation()
            .to_string()
            .contains("why:   invalid socket address syntax\n"),
        "{}",
        refused.explanation()
    );
}

#[test]
fn missing_value_says_how_to_set_it() {
    let missing = builder().load().unwrap().get::<Secret>("auth.key");
    assert_eq!(
        missing.unwrap_err().explanation().to_string(),
        "error: `auth.key` has no value\n\
         where: auth.key is not set\n\
         why:   nobody set it, and it has no default\n\
         do:    set MAXSCALE__AUTH__KEY, or auth.key in the configuration file, to a secret text",
    );
}

#[test]
fn program_that_misreads_its_schema_gets_an_error_and_no_panic() {
    let config = builder().load().unwrap();
    let undeclared = config.get::<bool>("no.such");
    assert!(matches!(undeclared, Err(ConfigError::Undeclared { .. })));
    let misread = config.get::<bool>("http.port");
    assert!(matches!(misread, Err(ConfigError::Misread { .. })));
    // A secret leaves only as a `Secret`.
    let config = builder().set("auth.key", "planted").load().unwrap();
    let misread = config.get::<Option<String>>("auth.key");
    assert!(matches!(misread, Err(ConfigError::Misread { .. })));
}

#[test]
fn program_explains_its_own_failures_in_the_same_words() {
    let config = builder()
        .set("redis.url", "redis://u:planted@h")
        .load()
        .unwrap();
    let explain = |key| config.explain(key, "cannot start", "redis://u:planted@h is gone", "wait");
    assert_eq!(
        explain("redis.url").to_string(),
        "error: cannot start\n\
         where: redis.url = redis://u:***@h (set by code or command line)\n\
         why:   redis://u:***@h is gone\n\
         do:    wait",
    );
    assert!(
        explain("auth.key")
            .to_string()
            .contains("where: auth.key is not set\n")
    );
}
