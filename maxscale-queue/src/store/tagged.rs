//! Whether a row has a tag among those that it lists.

macro_rules! pg_tagged {
    ($tag:expr) => {
        concat!(
            "EXISTS (SELECT 1 FROM json_array_elements_text(tags::json) AS t(tag)
                WHERE t.tag = ",
            $tag,
            ")"
        )
    };
}

macro_rules! sqlite_tagged {
    ($tag:expr) => {
        concat!(
            "EXISTS (SELECT 1 FROM json_each(tags) AS t WHERE t.value = ",
            $tag,
            ")"
        )
    };
}
