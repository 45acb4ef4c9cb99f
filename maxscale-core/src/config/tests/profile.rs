use super::super::{Config, ConfigBuilder, ConfigErrors, Kind, Profile, Schema, SchemaError};
use super::super::{Secret, Setting};
use super::report;

fn settings() -> Vec<Setting> {
    vec![
        Profile::setting(),
        Setting::new("http.listen", Kind::Address, "Where | to listen.")
            .default("127.0.0.1:3000")
            .required_in_prod(),
        Setting::new("keys.secret", Kind::Secret, "Signs.").required_in_prod(),
        Setting::new("keys.others", Kind::Secrets, "Read only."),
        Setting::new("log.filter", Kind::Text, "What is told.").default("info"),
    ]
}

fn builder() -> ConfigBuilder {
    Config::builder(Schema::new(settings()).unwrap())
}

/// All that `prod` needs, except for what follows.
fn prod(set: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let set = [("profile", "prod")].iter().chain(set);
    set.fold(builder(), |builder, (key, value)| builder.set(*key, *value))
        .load()
}

#[test]
fn nothing_has_to_be_set_in_dev() {
    let config = builder().load().unwrap();
    assert_eq!(config.profile(), Profile::Dev);
    assert_eq!(config.shown("http.listen"), Some("127.0.0.1:3000"));
}

#[test]
fn every_address_and_secret_that_is_unset_in_prod_is_told() {
    assert_eq!(
        prod(&[]).unwrap_err().to_string(),
        "error: `http.listen` has to be set in prod\n\
         where: http.listen is not set\n\
         why:   the default 127.0.0.1:3000 holds in dev only, and the profile is prod \
         (set by code or command line)\n\
         do:    set MAXSCALE__HTTP__LISTEN, or http.listen in the configuration file, \
         to an IP address and a port such as 127.0.0.1:3000\n\
         \n\
         error: `keys.secret` has to be set in prod\n\
         where: keys.secret is not set\n\
         why:   nobody set it, and the profile is prod (set by code or command line)\n\
         do:    set MAXSCALE__KEYS__SECRET, or keys.secret in the configuration file, \
         to a secret text"
    );
}

#[test]
fn value_of_the_default_set_by_hand_will_do_in_prod() {
    let config = prod(&[("http.listen", "127.0.0.1:3000"), ("keys.secret", "s")]).unwrap();
    assert_eq!(config.profile(), Profile::Prod);
}

#[test]
fn value_that_was_set_wrongly_is_not_called_unset_as_well() {
    let wrong = prod(&[("http.listen", "localhost"), ("keys.secret", "s")]);
    assert!(report(wrong).contains("not an IP address and a port"));

    let both = [
        ("MAXSCALE__KEYS__SECRET", "s"),
        ("MAXSCALE__KEYS__SECRET_FILE", "/s"),
    ];
    let both = both.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let listen = builder().set("http.listen", "[::1]:80");
    let loaded = listen.set("profile", "prod").environment(both).load();
    assert!(report(loaded).contains("are both set"));
}

#[test]
fn schema_with_an_address_or_secret_that_has_a_default_in_prod_is_refused() {
    for (kind, default) in [
        (Kind::Address, "127.0.0.1:1"),
        (Kind::Url, "redis://localhost"),
        (Kind::Secret, "changeme"),
        (Kind::Secrets, "changeme"),
    ] {
        let setting = || Setting::new("a.b", kind, "").default(default);
        let refused = Schema::new([Profile::setting(), setting()]);
        let key = "a.b";
        assert!(
            matches!(refused, Err(SchemaError::DefaultInProd { key: found }) if found == key),
            "{kind}"
        );
        Schema::new([Profile::setting(), setting().required_in_prod()]).unwrap();
        // Without profiles there is no prod to protect.
        Schema::new([setting()]).unwrap();
    }
}

#[test]
fn secrets_are_listed_and_none_is_shown() {
    let config = builder().set("keys.others", "one, two").load().unwrap();
    let secrets: Vec<Secret> = config.get("keys.others").unwrap();
    let texts: Vec<_> = secrets.iter().map(Secret::expose).collect();
    assert_eq!(texts, ["one", "two"]);
    let shown = format!("{config}{config:?}{secrets:?}");
    assert!(!shown.contains("one") && !shown.contains("two"), "{shown}");
    assert!(report(builder().set("keys.others", "one,").load()).contains("is empty"));
}

#[test]
fn reference_lists_each_setting_with_all_its_variables() {
    let schema = Schema::new(settings()).unwrap();
    let page = schema.reference().to_string();
    let rows: Vec<_> = page.lines().collect();
    assert_eq!(rows.len(), 2 + schema.settings().len());
    assert_eq!(
        rows[3],
        "| `http.listen` | `MAXSCALE__HTTP__LISTEN` \
         | an IP address and a port such as 127.0.0.1:3000 \
         | `127.0.0.1:3000`; in `prod` none | Where \\| to listen. |"
    );
    assert_eq!(
        rows[4],
        "| `keys.secret` | `MAXSCALE__KEYS__SECRET`<br>`MAXSCALE__KEYS__SECRET_FILE` \
         | a secret text | none; has to be set in `prod` | Signs. |"
    );
    assert!(rows[6].contains("`MAXSCALE__LOG__FILTER`<br>`RUST_LOG`"));
}
