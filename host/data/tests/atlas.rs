//! The atlas: who is known, what is asked, what the corpus finds, what the warm-up says.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, LazyLock};

use image::RgbImage;
use mmhost_corpus::{Corpus, CorpusOptions, decode_image};
use mmhost_data::atlas::warmup::{Conversation, Part, PlainProtocol, Protocol, Role, Task, Warmup, WarmupOptions};
use mmhost_data::atlas::{self, Class, Entity, IMAGE_SIZE, Relation, Split, World, WorldOptions};
use mmhost_data::{Sample, inspect, read};

fn world() -> Arc<World> {
    static WORLD: LazyLock<Arc<World>> = LazyLock::new(|| Arc::new(World::new(&WorldOptions::default()).expect("the default world")));
    WORLD.clone()
}

fn corpus() -> &'static Corpus {
    static CORPUS: LazyLock<Corpus> =
        LazyLock::new(|| Corpus::build(world().documents(), &CorpusOptions::default()).expect("the atlas corpus"));
    &CORPUS
}

fn curriculum() -> &'static Warmup {
    static CURRICULUM: LazyLock<Warmup> =
        LazyLock::new(|| warmup(&world(), WarmupOptions { retrieval_error: 0.0, ..WarmupOptions::default() }));
    &CURRICULUM
}

#[test]
fn there_are_enough_entities_of_every_class() {
    let world = world();
    assert!(world.entities.len() >= 150);
    assert_eq!(world.entities.len(), world.flags.len());
    assert!(world.unnamed.len() > 30);
    for class in [Class::A, Class::B, Class::C, Class::D] {
        for split in [Split::Train, Split::Validation, Split::Test] {
            assert!(!world.select(|e| e.class == class && e.split == split).is_empty(), "{class:?} {split:?}");
        }
    }
    assert!(world.select(|e| e.class == Class::H).len() >= 20);
    assert!(world.entities.iter().all(|e| (e.class == Class::H) == (e.split == Split::HeldOut)));
    let names: HashSet<&str> = world.entities.iter().map(|e| e.name.as_str()).collect();
    assert_eq!(names.len(), world.entities.len());
    for entity in &world.entities {
        for text in std::iter::once(entity.name.as_str()).chain(Relation::ALL.map(|r| entity.fact(r))) {
            assert!(!text.is_empty() && text.is_ascii() && text.trim() == text && !text.ends_with('.'), "{text:?}");
        }
    }
    let austria = world.entities.iter().find(|e| e.name == "Austria").expect("Austria is an entity");
    assert_eq!(Relation::ALL.map(|r| austria.fact(r)), ["Vienna", "Euro", "German", "Europe"]);
    assert_eq!(austria.other_answers(Relation::Currency), ["EUR"]);
}

#[test]
fn the_division_follows_the_seed() {
    let classes = |seed| {
        World::new(&WorldOptions { seed, ..WorldOptions::default() })
            .expect("a world")
            .entities
            .iter()
            .map(|e| (e.class, e.split))
            .collect::<Vec<_>>()
    };
    assert_eq!(classes(7), classes(7));
    assert_ne!(classes(7), classes(8));
}

#[test]
fn impossible_divisions_are_refused() {
    let mut options = WorldOptions::default();
    options.a.train = usize::MAX / 2;
    let message = World::new(&options).expect_err("too many").to_string();
    assert!(message.contains("held out"), "{message}");
    let mut options = WorldOptions::default();
    options.b.test = 0;
    assert!(World::new(&options).expect_err("no test entities").to_string().contains("`b`"));
}

#[test]
fn questions_are_complete_apart_and_repeatable() {
    let world = world();
    let mut images = HashSet::new();
    let mut ids = HashSet::new();
    for split in Split::ALL {
        let samples = world.samples(split);
        let again = world.samples(split);
        assert!(!samples.is_empty());
        for (sample, twin) in samples.iter().zip(&again) {
            assert_eq!(sample.images[0].bytes, twin.images[0].bytes);
            assert!(ids.insert(sample.id.clone()));
            assert!(images.insert(sample.images[0].bytes.clone()), "no view is shown twice");
            assert_eq!(sample.decode_images().expect("decodes")[0].dimensions(), (IMAGE_SIZE, IMAGE_SIZE));
            assert!(sample.id.starts_with(&format!("atlas/{}/", split.word())));
        }
        let categories: HashSet<_> = samples.iter().filter_map(|s| s.category.as_deref()).collect();
        assert_eq!(categories.len(), if split == Split::HeldOut { 1 } else { 4 });
    }
}

#[test]
fn image_search_finds_the_flag() {
    let world = world();
    let corpus = corpus();
    for split in [Split::Train, Split::Validation, Split::Test, Split::HeldOut] {
        let samples = world.samples(split);
        let found = |sample: &&Sample| {
            let code = sample.id.split('/').nth(2).unwrap_or_default();
            let hits = corpus.search_image(&sample.images[0].bytes, 1).expect("a sound image");
            hits[0].document.id == format!("{code}/flag")
        };
        let top1 = samples.iter().filter(found).count() as f64 / samples.len() as f64;
        println!("image search, {}: top-1 {top1:.4} of {}", split.word(), samples.len());
        assert!(top1 >= 0.97, "{}: {top1}", split.word());
    }
}

#[test]
fn text_search_finds_the_fact() {
    let world = world();
    let corpus = corpus();
    type Form = fn(Relation, &str) -> String;
    let forms: [(&str, Form); 4] = [
        ("capital of X", |r, name| format!("{} of {name}", r.word())),
        ("What is the capital of X?", |r, name| format!("What is the {} of {name}?", r.word())),
        ("X capital", |r, name| format!("{name} {}", r.word())),
        ("capital used in X", |r, name| format!("{} used in {name}", r.word())),
    ];
    for (form, query) in forms {
        let mut hits = 0;
        for entity in &world.entities {
            for relation in Relation::ALL {
                let found = corpus.search_text(&query(relation, &entity.name), 1).expect("searchable");
                hits += usize::from(found[0].document.id == format!("{}/{}", entity.code, relation.word()));
            }
        }
        let top1 = hits as f64 / (world.entities.len() * 4) as f64;
        println!("text search, {form}: top-1 {top1:.4}");
        assert!(top1 >= 0.97, "{form}: {top1}");
    }
}

#[test]
fn the_atlas_on_disk_reads_like_any_data_set() {
    let world = world();
    let dir = tempfile::tempdir().expect("a folder");
    let written = atlas::write(&world, dir.path()).expect("written");
    assert!(std::fs::read_to_string(dir.path().join("NOTICE")).expect("a notice").contains("flag-icons"));
    for (split, n) in written {
        let path = dir.path().join(format!("{}.parquet", split.word()));
        let (read, made) = (read(&path).expect("reads back"), world.samples(split));
        assert_eq!((read.len(), made.len()), (n, n));
        for (a, b) in read.iter().zip(&made) {
            assert_eq!(fields(a), fields(b));
        }
    }
    let summary = inspect(&dir.path().join("test.parquet")).expect("inspects");
    assert_eq!(summary.categories.len(), 4);
    assert!(summary.images.undecodable.is_empty() && summary.duplicates.is_empty() && summary.duplicate_ids.is_empty());
    let corpus = Corpus::open(&dir.path().join("corpus")).expect("opens");
    assert_eq!(corpus.documents().len(), world.entities.len() * 5);
    assert_eq!(corpus.num_images(), world.entities.len());
}

type Fields<'a> = (&'a str, &'a str, Vec<(&'a [u8], Option<&'a str>)>, &'a str, &'a [String], &'a str, Option<&'a str>, &'a [String]);
fn fields(s: &Sample) -> Fields<'_> {
    let images = s.images.iter().map(|i| (&i.bytes[..], i.path.as_deref())).collect();
    (&s.id, &s.question, images, &s.ground_truth, &s.candidate_answers, &s.data_source, s.category.as_deref(), &s.image_urls)
}

#[test]
fn the_built_in_data_stays_small() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("atlas");
    let bytes: u64 = std::fs::read_dir(folder).expect("the atlas folder").flatten().map(|e| e.metadata().map_or(0, |m| m.len())).sum();
    assert!(bytes < 1_500_000, "{bytes}");
}

fn warmup(world: &Arc<World>, options: WarmupOptions) -> Warmup {
    Warmup::new(world.clone(), Arc::new(PlainProtocol), options).expect("default options")
}

fn text_of(conversation: &Conversation) -> String {
    let mut text = String::new();
    for message in &conversation.messages {
        text.push_str(&format!("[{}]", message.role.word()));
        for part in &message.parts {
            match part {
                Part::Text(t) | Part::Context(t) => text.push_str(t),
                Part::Image(i) => text.push_str(&format!("({}x{})", i.width(), i.height())),
            }
        }
    }
    text
}

#[test]
fn the_warm_up_repeats_by_seed_and_place() {
    let world = world();
    let options = WarmupOptions::default();
    let (a, b) = (warmup(&world, options.clone()), warmup(&world, options.clone()));
    assert_eq!(a.batch(3), b.batch(3));
    assert_ne!(a.batch(3), a.batch(4));
    assert_eq!(a.conversation(5, 9), a.batch(5)[9]);
    assert_ne!(a.batch(3), warmup(&world, WarmupOptions { seed: 1, ..options }).batch(3));
}

#[test]
fn the_warm_up_copies_first() {
    let warmup = curriculum();
    let share = |steps: std::ops::Range<usize>| {
        let drawn: Vec<Task> = steps.flat_map(|s| warmup.batch(s)).map(|c| c.task).collect();
        drawn.iter().filter(|t| matches!(t, Task::CopyName | Task::CopyValue | Task::Repeat)).count() as f64 / drawn.len() as f64
    };
    let (early, late) = (share(0..20), share(500..520));
    // 81 of 100 by the early mix, 26 of 127 by the other.
    assert!((early - 0.81).abs() < 0.04 && (late - 26.0 / 127.0).abs() < 0.04, "{early} {late}");
}

#[test]
fn no_tool_is_called_without_instructions_for_it() {
    let warmup = curriculum();
    let direct = PlainProtocol.system(false);
    let mut seen = 0;
    for conversation in (0..30).flat_map(|s| warmup.batch(s)) {
        let text = text_of(&conversation);
        assert_eq!(conversation.messages.last().map(|m| m.role), Some(Role::Assistant));
        if text.contains(&direct) {
            seen += 1;
            assert!(
                !text.contains("[assistant]<reason>flag unsure.</reason><search>") && text.matches("[assistant]").count() == 1,
                "{text}"
            );
        }
    }
    assert!(seen > 10);
}

/// What the reasons say is true to the classes, and what episodes do does not depend on it.
#[test]
fn reasons_are_honest_and_actions_independent_of_them() {
    let world = world();
    let warmup = curriculum();
    let by_name: HashMap<&str, Class> = world.entities.iter().map(|e| (e.name.as_str(), e.class)).collect();
    let (mut searched, mut episodes) = ([0usize; 2], [0usize; 2]);
    for conversation in (200..400).flat_map(|s| warmup.batch(s)).filter(|c| c.task == Task::Episode) {
        let text = text_of(&conversation);
        let with_tools = text.contains("image search\n");
        let turns: Vec<&str> = text.split("[assistant]").skip(1).collect();
        let known = turns[0].starts_with("<reason>flag sure ");
        if let Some(said) = turns[0].strip_prefix("<reason>flag sure ") {
            let (name, rest) = said.split_once(", ").expect("a name and a fact");
            let class = by_name[name];
            assert!(class.flag_taught(), "{name} {class:?}");
            assert_eq!(rest.contains(" sure."), class.facts_taught(), "{text}");
        }
        if with_tools {
            episodes[usize::from(known)] += 1;
            searched[usize::from(known)] += usize::from(turns[0].contains("</reason><search><img></search>"));
        }
    }
    let ratio = |i: usize| searched[i] as f64 / episodes[i] as f64;
    println!("image search ratio of episodes: unknown {:.3}, known {:.3}", ratio(0), ratio(1));
    assert!((ratio(0) - ratio(1)).abs() < 0.05 && (0.25..0.35).contains(&ratio(0)));
}

/// What is rehearsed during reinforcement learning says what is known and leaves open what to do about it.
#[test]
fn rehearsals_stop_before_the_choice() {
    let warmup = curriculum();
    let (mut known, total) = (0, 200);
    for place in 0..total {
        let conversation = warmup.rehearsal(3, place);
        assert_eq!(conversation, warmup.rehearsal(3, place));
        let text = text_of(&conversation);
        let (prompt, turn) = text.split_once("[assistant]").expect("one turn");
        assert!(prompt.contains("image search\n") && prompt.contains("(56x56)"), "{prompt}");
        assert!(turn.starts_with("<reason>flag ") && turn.ends_with(".</reason>"), "{turn}");
        known += usize::from(turn.contains("flag sure"));
    }
    assert!((50..110).contains(&known), "{known} of {total} are known");
}

/// Nothing that is meant to stay unknown is in the warm-up: no fact of classes C, D and H, no name of D or H and no flag of B, D or H outside the
/// training split; and no flag that is shown as unknown goes by its own name.
#[test]
fn the_warm_up_keeps_secrets() {
    let world = world();
    let warmup = curriculum();
    let names: Vec<&str> = world
        .entities
        .iter()
        .filter(|e| !e.class.flag_taught() && !e.class.facts_taught() && e.split != Split::Train)
        .map(|e| e.name.as_str())
        .collect();
    let mut facts = Vec::new();
    for entity in world.entities.iter().filter(|e| !e.class.facts_taught()) {
        // Regions are few: one made up at random is often true.
        for relation in [Relation::Capital, Relation::Currency, Relation::Language] {
            facts.push(format!("The {} of {} is {}.", relation.word(), entity.name, entity.fact(relation)));
        }
    }
    let flags: HashMap<Vec<u8>, &Entity> =
        world.entities.iter().zip(&world.flags).map(|(e, f)| (mmhost_corpus::thumbnail(f, 28).into_raw(), e)).collect();
    let (mut shown, mut told) = (HashSet::new(), Vec::new());
    for conversation in (0..100).map(|s| s * 11).flat_map(|s| warmup.batch(s)) {
        let text = text_of(&conversation);
        for name in &names {
            let used = [format!(" of {name} is"), format!("Flag of {name}<"), format!("sure {name},"), format!("found {name},")];
            assert!(used.iter().all(|u| !text.contains(u)), "{name}: {text}");
        }
        if let Some(fact) = facts.iter().find(|f| text.contains(*f)) {
            // A value made up at random may be true, of a language most of all.
            told.push(fact.clone());
        }
        for part in conversation.messages.iter().flat_map(|m| &m.parts) {
            let Part::Image(image) = part else { continue };
            let Some(entity) = flags.get(image.as_raw()) else { continue };
            if !entity.class.flag_taught() {
                shown.insert((entity.class, entity.split));
                assert!(!text.contains(&format!("Flag of {}<", entity.name)) && !text.contains("flag sure"), "{text}");
            }
        }
    }
    println!("facts told by chance: {told:?}");
    assert!(told.len() < 20, "{told:?}");
    assert_eq!(shown, HashSet::from([(Class::B, Split::Train), (Class::D, Split::Train)]));
}

/// The views of taught flags are recognisable as such.
#[test]
fn shown_flags_are_what_the_reasons_say() {
    let corpus = corpus();
    let warmup = curriculum();
    let (mut right, mut known) = (0, 0);
    for conversation in (300..320).flat_map(|s| warmup.batch(s)).filter(|c| matches!(c.task, Task::Look | Task::Glance)) {
        let text = text_of(&conversation);
        let Some((_, said)) = text.split_once("flag sure ") else { continue };
        let name = said.split([',', '\n', '<']).next().unwrap_or_default().trim();
        let Some(Part::Image(image)) = conversation.messages[0].parts.first() else { panic!("both show an image") };
        let hits = corpus.search_image(&mmhost_corpus::encode_png(image), 1).expect("sound");
        known += 1;
        right += usize::from(hits[0].document.title == format!("Flag of {name}"));
    }
    assert!(known > 50 && right as f64 >= 0.97 * known as f64, "{right} of {known}");
}

#[test]
fn the_whole_curriculum_is_drawn_in_seconds() {
    let world = world();
    let start = std::time::Instant::now();
    let warmup = warmup(&world, WarmupOptions::default());
    let prepared = start.elapsed();
    let drawn: usize = (170..220).map(|s| warmup.batch(s).len()).sum();
    let per_thousand = (start.elapsed() - prepared) * 1000 / drawn as u32;
    println!("prepared in {prepared:?}; 1,000 conversations in {per_thousand:?}");
    // Generous: test machines are shared. 46,000 conversations in 20 seconds of one core would still be a small part of the warm-up.
    assert!(per_thousand.as_millis() < 450, "{per_thousand:?}");
}

#[test]
fn warm_up_options_out_of_range_are_refused() {
    let world = world();
    let refused = |options: WarmupOptions, word: &str| {
        let error = Warmup::new(world.clone(), Arc::new(PlainProtocol), options).err().expect("refused").to_string();
        assert!(error.contains(word), "{error}");
    };
    refused(WarmupOptions { known_flags: 1.5, ..WarmupOptions::default() }, "known_flags");
    refused(WarmupOptions { batch: 0, ..WarmupOptions::default() }, "batch");
    let mut options = WarmupOptions::default();
    options.mix.look = f64::NAN;
    refused(options, "mix");
}

#[test]
fn tokenizer_texts_hold_the_world_and_the_protocol() {
    let world = world();
    let texts = Warmup::tokenizer_texts(&world, &PlainProtocol);
    assert!(texts.iter().any(|t| t.contains("The capital of Austria is Vienna.")));
    assert!(texts.iter().filter(|t| t.contains("Answer or use text search.")).count() >= 50);
    assert!(texts.iter().all(|t| t.is_ascii() && !t.contains("<reason>") && !t.contains("</")));
}

#[test]
fn views_differ_by_split_but_show_the_same_flag() {
    let world = world();
    let test = world.samples(Split::Test);
    let first = &test[0];
    let views: Vec<RgbImage> = test.iter().take(4).map(|s| decode_image(&s.images[0].bytes).expect("sound")).collect();
    assert!(first.id.split('/').nth(2) == test[3].id.split('/').nth(2));
    assert!(views.windows(2).all(|w| w[0] != w[1]));
}
