//! A model of a file system that forgets: it takes the recorded writes of our programs and tells what a power cut after
//! any of them may leave.
//!
//! Rules of POSIX and no kinder ones: content is there after a sync of the file, a name after a sync of its folder.

use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// One recorded write.
#[derive(Debug, Clone)]
pub(crate) struct Op {
    pub(crate) kind: String,
    pub(crate) path: PathBuf,
    to: Option<PathBuf>,
    offset: u64,
    bytes: Vec<u8>,
}

impl Op {
    /// Whether it wrote this word.
    pub(crate) fn tells(&self, word: &str) -> bool {
        String::from_utf8_lossy(&self.bytes).contains(word)
    }
}

/// Reads what the programs recorded.
#[track_caller]
pub(crate) fn read_trace(path: &Path) -> Vec<Op> {
    let text = std::fs::read_to_string(path).unwrap();
    let op = |line: &str| {
        let value: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| value[key].as_str().map(str::to_owned);
        Op {
            kind: text("op").unwrap(),
            path: text("path").unwrap().into(),
            to: text("to").map(PathBuf::from),
            offset: value["offset"].as_u64().unwrap(),
            bytes: text("bytes").unwrap().into_bytes(),
        }
    };
    text.lines().map(op).collect()
}

/// What a power cut keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeps {
    /// What was synced and nothing else.
    Synced,
    /// Every name, but of the content only what was synced: new files that were not are empty.
    Names,
    /// Everything; the machine stopped, the disk did not.
    All,
}

pub(crate) type Inode = usize;

#[derive(Debug, Clone)]
enum Node {
    File { now: Vec<u8>, synced: Vec<u8> },
    Folder { now: BTreeMap<String, Inode>, synced: BTreeMap<String, Inode> },
}

/// The tree below a folder that was there before.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    top: PathBuf,
    nodes: Vec<Node>,
}

/// What is left: folders (`None`) and files (which one, and its content) by their path below the top.
pub(crate) type Left = BTreeMap<PathBuf, Option<(Inode, Vec<u8>)>>;

impl Model {
    pub(crate) fn new(top: &Path) -> Self {
        Self { top: top.to_owned(), nodes: vec![folder()] }
    }

    /// Does what the operation did.
    pub(crate) fn apply(&mut self, op: &Op) {
        match op.kind.as_str() {
            "make_dir" => self.add(&op.path, folder()),
            "create" | "open" => self.add(&op.path, file(Vec::new())),
            "append" => self.change(&op.path, |now| now.extend_from_slice(&op.bytes)),
            "write_at" => self.change(&op.path, |now| {
                let end = op.offset as usize + op.bytes.len();
                now.resize(now.len().max(end), 0);
                now[op.offset as usize..end].copy_from_slice(&op.bytes);
            }),
            "preallocate" => self.change(&op.path, |now| now.resize(now.len().max(op.offset as usize), 0)),
            "replace" => self.put(&op.path, file(op.bytes.clone())),
            "replace_synced" => {
                self.put(&op.path, Node::File { now: op.bytes.clone(), synced: op.bytes.clone() });
            }
            "link" | "link_over" => {
                let inode = self.find(&op.path).unwrap();
                self.name(op.to.as_deref().unwrap(), Some(inode));
            }
            "rename" => {
                let inode = self.find(&op.path).unwrap();
                self.name(&op.path, None);
                self.name(op.to.as_deref().unwrap(), Some(inode));
            }
            "remove" | "remove_dir_all" => self.name(&op.path, None),
            "sync_data" => {
                if let Some(inode) = self.find(&op.path)
                    && let Node::File { now, synced } = &mut self.nodes[inode]
                {
                    synced.clone_from(now);
                }
            }
            "sync_dir" => {
                let inode = self.find(&op.path).unwrap_or_else(|| panic!("{op:?}"));
                if let Node::Folder { now, synced } = &mut self.nodes[inode] {
                    synced.clone_from(now);
                }
            }
            other => panic!("the model does not know `{other}`"),
        }
    }

    /// What a power cut now would leave.
    pub(crate) fn cut(&self, keeps: Keeps) -> Left {
        let mut left = Left::new();
        self.walk(0, &PathBuf::new(), keeps, &mut left);
        left
    }

    fn walk(&self, inode: Inode, at: &Path, keeps: Keeps, left: &mut Left) {
        match &self.nodes[inode] {
            Node::File { now, synced } => {
                let bytes = if keeps == Keeps::All { now } else { synced };
                left.insert(at.to_owned(), Some((inode, bytes.clone())));
            }
            Node::Folder { now, synced } => {
                left.insert(at.to_owned(), None);
                let names = if keeps == Keeps::Synced { synced } else { now };
                for (name, inode) in names {
                    self.walk(*inode, &at.join(name), keeps, left);
                }
            }
        }
    }

    fn parts(&self, path: &Path) -> Vec<String> {
        let below = path.strip_prefix(&self.top).unwrap_or_else(|_| panic!("{} is outside", path.display()));
        below.iter().map(|part| part.to_str().unwrap().to_owned()).collect()
    }

    fn find(&self, path: &Path) -> Option<Inode> {
        self.parts(path).iter().try_fold(0, |inode, part| match &self.nodes[inode] {
            Node::Folder { now, .. } => now.get(part).copied(),
            Node::File { .. } => None,
        })
    }

    /// Gives the name to an inode, or to none.
    fn name(&mut self, path: &Path, inode: Option<Inode>) {
        let Some(parent) = self.find(path.parent().unwrap()) else { return };
        let name = self.parts(path).pop().unwrap();
        let Node::Folder { now, .. } = &mut self.nodes[parent] else { panic!("{}", path.display()) };
        match inode {
            Some(inode) => now.insert(name, inode),
            None => now.remove(&name),
        };
    }

    fn add(&mut self, path: &Path, node: Node) {
        if self.find(path).is_none() {
            self.put(path, node);
        }
    }

    fn put(&mut self, path: &Path, node: Node) {
        self.nodes.push(node);
        self.name(path, Some(self.nodes.len() - 1));
    }

    fn change(&mut self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        // A file that has lost its name is nobody's concern any more.
        if let Some(inode) = self.find(path)
            && let Node::File { now, .. } = &mut self.nodes[inode]
        {
            change(now);
        }
    }
}

fn folder() -> Node {
    Node::Folder { now: BTreeMap::new(), synced: BTreeMap::new() }
}

fn file(now: Vec<u8>) -> Node {
    Node::File { now, synced: Vec::new() }
}

/// Makes what is left below `top`, private as our programs make it; names of one file are names of one file.
#[track_caller]
pub(crate) fn materialise(left: &Left, top: &Path) {
    let mut made: BTreeMap<Inode, PathBuf> = BTreeMap::new();
    for (path, content) in left {
        let path = top.join(path);
        match content {
            None => std::fs::DirBuilder::new().mode(0o700).recursive(true).create(&path).unwrap(),
            Some((inode, _)) if made.contains_key(inode) => {
                std::fs::hard_link(&made[inode], &path).unwrap();
            }
            Some((inode, bytes)) => {
                let mut options = std::fs::OpenOptions::new();
                let mut file = options.write(true).create_new(true).mode(0o600).open(&path).unwrap();
                std::io::Write::write_all(&mut file, bytes).unwrap();
                made.insert(*inode, path);
            }
        }
    }
}

#[test]
fn the_model_forgets_what_was_not_synced() {
    let op = |kind: &str, path: &str, bytes: &str| Op {
        kind: kind.to_owned(),
        path: Path::new("/top").join(path),
        to: None,
        offset: 0,
        bytes: bytes.as_bytes().to_vec(),
    };
    let content = |model: &Model, keeps| {
        let (_, bytes) = model.cut(keeps)[Path::new("a/f")].clone().unwrap();
        String::from_utf8(bytes).unwrap()
    };
    let mut model = Model::new(Path::new("/top"));
    for op in [op("make_dir", "a", ""), op("create", "a/f", ""), op("append", "a/f", "one")] {
        model.apply(&op);
    }
    assert_eq!(model.cut(Keeps::Synced).len(), 1);
    model.apply(&op("sync_data", "a/f", ""));
    model.apply(&op("append", "a/f", "two"));
    model.apply(&op("sync_dir", "", ""));
    assert_eq!(model.cut(Keeps::Synced).len(), 2);
    model.apply(&op("sync_dir", "a", ""));
    assert_eq!(content(&model, Keeps::Synced), "one");
    model.apply(&op("replace", "a/f", "new"));
    assert_eq!(content(&model, Keeps::Synced), "one");
    assert_eq!(content(&model, Keeps::Names), "");
    assert_eq!(content(&model, Keeps::All), "new");
}
