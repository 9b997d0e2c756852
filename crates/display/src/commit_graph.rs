//! Draws the commit graph in lanes, as `git log --graph` does.
//!
//! Commits are drawn newest first. Each lane holds the id of the next commit to draw in it. A merge
//! opens a lane for its second parent. Lanes that expect the same commit join at this commit.

use headwater_model::{Commit, CommitId};

/// One line of the drawing.
pub struct GraphLine<'a> {
    /// Lanes and joins, such as `* |` or `|\`.
    pub lanes: String,
    /// The commit of this line, if any.
    pub commit: Option<&'a Commit>,
}

/// Draws commits, newest first.
pub fn draw(commits: &[Commit]) -> Vec<GraphLine<'_>> {
    let mut lines = Vec::new();
    let mut lanes: Vec<CommitId> = Vec::new();
    for commit in commits {
        let lane = lanes.iter().position(|expects| *expects == commit.id).unwrap_or_else(|| {
            lanes.push(commit.id);
            lanes.len() - 1
        });
        if let Some(join) = join_lanes(&mut lanes, lane) {
            lines.push(GraphLine { lanes: join, commit: None });
        }
        lines.push(GraphLine { lanes: marks(&lanes, lane), commit: Some(commit) });
        if let Some(fork) = follow_parents(&mut lanes, lane, &commit.parents) {
            lines.push(GraphLine { lanes: fork, commit: None });
        }
    }
    lines
}

/// Ends the other lanes that expect the same commit as `lane`. Returns a line that shows the joined
/// lanes, if there are any.
fn join_lanes(lanes: &mut Vec<CommitId>, lane: usize) -> Option<String> {
    let expected = lanes[lane];
    let before = lanes.len();
    let mut index = 0;
    lanes.retain(|expects| {
        index += 1;
        index - 1 <= lane || *expects != expected
    });
    (lanes.len() < before).then(|| format!("{}|/", "| ".repeat(lane)))
}

fn marks(lanes: &[CommitId], lane: usize) -> String {
    let marks: Vec<_> = (0..lanes.len()).map(|i| if i == lane { "*" } else { "|" }).collect();
    marks.join(" ")
}

/// Continues the lane with the commit's first parent, and opens a lane for the second parent.
/// Returns a line that shows the new lane, if there is one.
fn follow_parents(lanes: &mut Vec<CommitId>, lane: usize, parents: &[CommitId]) -> Option<String> {
    match parents {
        [] => {
            lanes.remove(lane);
            None
        }
        [parent] => {
            lanes[lane] = *parent;
            None
        }
        [first, second, ..] => {
            lanes[lane] = *first;
            lanes.insert(lane + 1, *second);
            Some(format!("{}|\\", "| ".repeat(lane)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(name: &str, parents: &[&str]) -> Commit {
        let id = |name: &str| CommitId::of(name.as_bytes());
        Commit {
            id: id(name),
            parents: parents.iter().map(|parent| id(parent)).collect(),
            author: "eva".into(),
            message: name.into(),
            time: chrono::DateTime::UNIX_EPOCH,
            properties: std::collections::BTreeMap::new(),
        }
    }

    #[test]
    fn merge_opens_lane_that_joins_at_base() {
        let commits = [
            commit("merge", &["main", "dev"]),
            commit("dev", &["base"]),
            commit("main", &["base"]),
            commit("base", &[]),
        ];
        let drawn: Vec<_> = draw(&commits)
            .iter()
            .map(|line| {
                let message = line.commit.map_or("", |commit| commit.message.as_str());
                format!("{} {message}", line.lanes).trim_end().to_owned()
            })
            .collect();
        assert_eq!(drawn, ["* merge", "|\\", "| * dev", "* | main", "|/", "* base"]);
    }
}
