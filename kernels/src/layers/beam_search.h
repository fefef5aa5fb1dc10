// Beam search over several sentences: the hypotheses that run, those that have finished, and which
// rows of the decoder they stand in.
//
// The rules are those of `optops.models.transformer.search.SearchSettings`: in each step the best
// 2 * beam continuations of a sentence are taken; those among the first `beam` that end are
// finished, the best `beam` that do not end run on. A sentence is done when `beam` hypotheses have
// finished, when no running one can still beat the best, or at its limit, where all are made to
// end.
#ifndef OPTOPS_LAYERS_BEAM_SEARCH_H_
#define OPTOPS_LAYERS_BEAM_SEARCH_H_

#include <cstdint>
#include <vector>

#include "optops/kernels.h"

namespace optops {

// What a step of the decoder found for all rows.
struct Found {
  int64_t lists;           // each over some of the outputs
  int64_t choices;         // of a row in a list
  int64_t rows;            // the stride of lists, in rows
  const float* values;     // [lists][rows][choices], largest first
  const int32_t* outputs;  // the same; -1 where there is none
  const float* log_sums;   // [rows], log of the sum of e^value over all outputs
  const float* ends;       // [rows], the value of the end
};

class BeamSearch {
 public:
  // Starts the search. limits: [sentences], in place of those of the settings; `begin` and `end`
  // are outputs.
  void start(const optops_search& settings, const int32_t* limits, int64_t sentences, int32_t begin,
             int32_t end);

  // The sentences that are still searched: `active` of them, [0, active).
  int64_t active() const { return static_cast<int64_t>(sentences_.size()); }
  int64_t sentence(int64_t index) const { return sentences_[index]; }

  // Their rows: those of index i are [first_rows[i], first_rows[i + 1]).
  const int64_t* first_rows() const { return first_rows_.data(); }
  int64_t rows() const { return first_rows_.back(); }
  int32_t token(int64_t row) const { return tokens_[row]; }
  // [rows][position + 1]: in which slot of its sentence each position of a hypothesis was written.
  const uint8_t* const* ancestors() const { return ancestors_.data(); }

  // Whether the end may not be chosen at a position.
  bool too_short(int64_t position) const { return position + 1 < settings_.minimum_length; }

  // Takes what a step found for one sentence. Several threads may do this for different sentences.
  void take(int64_t index, int64_t position, const Found& found);

  // Drops the sentences that are done, and gives the others their rows for the next position.
  void advance(int64_t position);

  // Writes the results of all sentences: ids [sentences][results][capacity], filled up with
  // `padding`; lengths and scores [sentences][results], 0 and NaN where there is none.
  void write(int64_t capacity, int32_t padding, int32_t* ids, int32_t* lengths,
             float* scores) const;

 private:
  struct Result {
    float score;
    std::vector<int32_t> ids;
  };
  struct Sentence {
    int64_t limit;
    bool done;
    int64_t finished;
    int64_t slots;                  // hypotheses that run
    std::vector<float> alive;       // [beam], their scores
    std::vector<int32_t> written;   // [limit][beam], the id that each slot of a position reads
    std::vector<uint8_t> paths[2];  // [beam][limit], ancestors at even and at odd positions
    std::vector<Result> results;    // best first; `kept` of them are there, the others are room
    size_t kept;
    std::vector<struct Continuation> best;  // room for a step
  };

  float penalty(int64_t length) const;
  void finish(Sentence& sentence, int64_t position, int64_t slot, float score);

  optops_search settings_;
  int32_t end_;
  std::vector<Sentence> all_;
  std::vector<int64_t> sentences_, first_rows_;
  std::vector<int32_t> tokens_;
  std::vector<const uint8_t*> ancestors_;
};

// A way to go on: the score it would have, the hypothesis it goes on from, the output it appends.
struct Continuation {
  float score;
  float value;
  int32_t slot;
  int32_t output;
};

}  // namespace optops

#endif  // OPTOPS_LAYERS_BEAM_SEARCH_H_
