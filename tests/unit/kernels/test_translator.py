"""A translator in one call finds what a search in float64 without a cache finds, on every instruction set."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.kernels.reference import (
    END,
    KILOBYTES,
    ReferenceDecoder,
    Sizes,
    make_model,
    make_sentences,
    shared_embedding,
)

from optops.kernels import (
    DecoderLayerWeights,
    EncoderLayerWeights,
    KernelError,
    PackedEncoder,
    PackedProduct,
    PackedTranslator,
)
from optops.models.transformer.search import SearchSettings
from optops.runtimes.beam_search import beam_search, n_best

LENGTHS = [5, 17, 1, 33]
BEAMS = (1, 2, 5)
SEARCH = {beam: SearchSettings(beam=beam, max_length=40) for beam in BEAMS}
# Of the logarithm of a translation's probability, a sum over up to 40 tokens.
TOLERANCE = {"fp32": 1e-4, "bf16": 0.15, "int8": 0.4}
RUN = """
import pickle
from optops.kernels import PackedTranslator
arguments = pickle.loads(arrays["arguments"].tobytes())
for precision in ("fp32", "bf16", "int8"):
    translator = PackedTranslator(**arguments, precision=precision)
    for beam in (1, 2, 5):
        for threads in (1, 2):
            sentences = (arrays[name] for name in ("ids", "lengths", "limits"))
            result = translator.translate(*sentences, beam=beam, threads=threads)
            for name, value in result._asdict().items():
                found[f"{precision}/{beam}/{threads}/{name}"] = value
"""


def limits(lengths):
    return SEARCH[1].limits(np.array(lengths))


def listed(result):
    """The ids of the best translations, without padding."""
    return [ids[0, : count[0]].tolist() for ids, count in zip(result.ids, result.lengths, strict=True)]


@pytest.fixture(scope="module")
def model():
    return make_model(norm_first=True)


@pytest.fixture(scope="module")
def translator(model):
    return PackedTranslator(**model.arguments())


@pytest.fixture(scope="module", params=TOLERANCE)
def any_translator(model, request):
    return PackedTranslator(**model.arguments(), precision=request.param)


@pytest.mark.parametrize("norm_first", [True, False])
def test_it_finds_what_a_search_in_float64_finds_and_threads_change_no_bit(isa, norm_first, run_under):
    model = make_model(norm_first)
    sentences, ids = make_sentences(LENGTHS)
    arguments = np.frombuffer(pickle.dumps(model.arguments()), np.uint8)
    found = run_under(isa, RUN, {"arguments": arguments, "ids": ids, "lengths": LENGTHS, "limits": limits(LENGTHS)})
    memories = [model.encode(sentence) for sentence in sentences]
    for beam in BEAMS:
        expected, scores = beam_search(ReferenceDecoder(model, sentences), np.array(LENGTHS), SEARCH[beam])
        for precision, tolerance in TOLERANCE.items():
            one, two = ({n: found[f"{precision}/{beam}/{t}/{n}"] for n in ("ids", "lengths", "scores")} for t in (1, 2))
            for name in one:
                np.testing.assert_array_equal(one[name], two[name])
            for row, memory in enumerate(memories):
                ids_found = one["ids"][row, 0, : one["lengths"][row, 0]]
                # What it says of its translation is true of it, whether or not it is the best.
                penalty = SEARCH[beam].penalty(np.array(len(ids_found)))
                assert one["scores"][row, 0] == pytest.approx(
                    model.log_probability(ids_found, memory) / penalty, abs=tolerance
                )
                if precision == "fp32":
                    assert ids_found.tolist() == expected[row][expected[row] > 0].tolist()
                    assert one["scores"][row, 0] == pytest.approx(scores[row], abs=tolerance)


@pytest.mark.parametrize("norm_first", [True, False])
def test_rows_of_whole_kilobytes_are_found_where_they_are(norm_first):
    model = make_model(norm_first, sizes=KILOBYTES)
    sentences, ids = make_sentences(LENGTHS)
    translator = PackedTranslator(**model.arguments())
    memory = translator.encode(ids, LENGTHS)
    for row, sentence in enumerate(sentences):
        np.testing.assert_allclose(memory[row, : len(sentence)], model.encode(sentence), atol=1e-4)
    expected, scores = beam_search(ReferenceDecoder(model, sentences), np.array(LENGTHS), SEARCH[2])
    found = translator.translate(ids, LENGTHS, limits(LENGTHS), beam=2)
    for row, best in enumerate(listed(found)):
        assert best == expected[row][expected[row] > 0].tolist()
    np.testing.assert_allclose(found.scores[:, 0], scores, atol=1e-4)


def test_a_shared_embedding_gives_what_two_equal_ones_give(model):
    twice = shared_embedding(model)
    arguments = twice.arguments() | {"target_embedding": None}
    _, ids = make_sentences(LENGTHS)
    apart = PackedTranslator(**twice.arguments()).translate(ids, LENGTHS, limits(LENGTHS))
    together = PackedTranslator(**arguments).translate(ids, LENGTHS, limits(LENGTHS))
    assert listed(together) == listed(apart)
    np.testing.assert_array_equal(together.scores, apart.scores)


def test_neither_padding_nor_order_nor_neighbours_change_a_bit(any_translator):
    translator = any_translator
    sentences, ids = make_sentences(LENGTHS)
    whole = translator.translate(ids, LENGTHS, limits(LENGTHS))
    order = np.array([2, 0, 3, 1])
    moved = translator.translate(ids[order], np.array(LENGTHS)[order], limits(LENGTHS)[order])
    np.testing.assert_array_equal(moved.scores, whole.scores[order])
    for row, sentence in enumerate(sentences):
        alone = translator.translate(sentence[None], [len(sentence)], limits([len(sentence)]))
        assert listed(alone)[0] == listed(whole)[row]
        np.testing.assert_array_equal(alone.scores[0], whole.scores[row])


def test_more_sentences_than_are_decoded_together_change_nothing(translator):
    lengths = [3, 1, 7] * 120
    sentences, ids = make_sentences(lengths)
    many = translator.translate(ids, lengths, limits(lengths), beam=5)
    for row in (0, 1, 205, 359):
        alone = translator.translate(sentences[row][None], [lengths[row]], limits([lengths[row]]), beam=5)
        assert listed(alone)[0] == listed(many)[row]


def test_more_sentences_than_are_encoded_together_change_nothing():
    # Of the hidden units of a thousand ids there are half a gigabyte.
    model = make_model(norm_first=True, sizes=Sizes(((1, 1 << 17),), ((1, 1, 8),)))
    translator = PackedTranslator(**model.arguments())
    lengths, few = [64, 60] * 10, [8] * 20
    sentences, ids = make_sentences(lengths)
    many, memory = translator.translate(ids, lengths, few, beam=2), translator.encode(ids, lengths)
    for row in (0, 15, 16, 19):
        alone = sentences[row][None], [lengths[row]]
        found = translator.translate(*alone, few[:1], beam=2)
        assert listed(found)[0] == listed(many)[row]
        np.testing.assert_array_equal(found.scores[0], many.scores[row])
        np.testing.assert_array_equal(memory[row, : lengths[row]], translator.encode(*alone)[0])


def test_encoding_and_then_decoding_is_translating(model, translator):
    sentences, ids = make_sentences(LENGTHS)
    memory = translator.encode(ids, LENGTHS)
    for row, sentence in enumerate(sentences):
        np.testing.assert_allclose(memory[row, : len(sentence)], model.encode(sentence), atol=1e-4)
        assert not memory[row, len(sentence) :].any()
    apart = translator.decode(memory, LENGTHS, limits(LENGTHS))
    whole = translator.translate(ids, LENGTHS, limits(LENGTHS))
    np.testing.assert_array_equal(apart.ids, whole.ids)
    np.testing.assert_array_equal(apart.scores, whole.scores)


def test_several_results_are_those_of_a_search_in_float64_that_goes_on(model, translator):
    sentences, ids = make_sentences(LENGTHS)
    expected = n_best(ReferenceDecoder(model, sentences), np.array(LENGTHS), SEARCH[5])
    found = translator.translate(ids, LENGTHS, limits(LENGTHS), beam=5, results=3)
    for row, hypotheses in enumerate(expected):
        ours = [tuple(found.ids[row, i, : found.lengths[row, i]].tolist()) for i in range(3)]
        assert ours == [hypothesis.ids for hypothesis in hypotheses[:3]]
        np.testing.assert_allclose(found.scores[row], [h.score for h in hypotheses[:3]], atol=1e-4)


def make_next_id_model(after_others, after_3):
    """Writes ids by two distributions, [outputs] each: one after the id 3, one after all others."""

    def product(inputs, outputs):
        return np.zeros((inputs, outputs), np.float32), np.zeros(outputs, np.float32)

    norm = np.ones(2, np.float32), np.zeros(2, np.float32)
    # Of two values a norm leaves the sign of their difference.
    embedding = np.tile(np.float32([1, -1]), (len(after_3), 1))
    embedding[3] *= -1
    logs = np.log(np.float32([after_others, after_3]))
    kernel = np.stack([(logs[0] - logs[1]) / 2, np.zeros_like(logs[0])])
    attention, units = (product(2, 6), product(2, 2)), (product(2, 1), product(1, 2))
    cross = product(2, 2), product(2, 4), product(2, 2)
    return PackedTranslator(
        [EncoderLayerWeights(1, norm, *attention, norm, *units)],
        [DecoderLayerWeights(1, 1, norm, *attention, norm, *cross, norm, *units)],
        head_size=2,
        source_embedding=embedding,
        positions=np.zeros((2000, 2), np.float32),
        projection=(kernel, logs.mean(axis=0)),
        encoder_norm=norm,
        decoder_norm=norm,
    )


def test_a_search_with_a_negative_length_penalty_goes_on_until_nothing_better_can_come():
    translator = make_next_id_model([1e-9, 1e-9, 0.3, 0.6, 0.1], [1e-9, 1e-9, 1, 1e-9, 1e-9])
    found = translator.translate(np.array([[4]]), [1], [10], length_penalty=-1.0)
    assert listed(found) == [[3, END]]
    assert found.scores[0, 0] == pytest.approx(np.log(0.6) * 7 / 6, abs=1e-5)


@pytest.mark.parametrize("length_penalty", [-5.0, 5.0])
def test_long_translations_have_scores_with_every_length_penalty(length_penalty):
    translator = make_next_id_model(*[[1e-9, 1e-9, 0.3, 0.6, 0.1]] * 2)
    how = {"length_penalty": length_penalty, "minimum_length": 2000}
    found = translator.translate(np.array([[4]]), [1], [2000], beam=2, results=2, **how)
    assert listed(found) == [[3] * 1999 + [END]]
    log_probabilities = np.array([1999 * np.log(0.6), 1998 * np.log(0.6) + np.log(0.1)]) + np.log(0.3)
    np.testing.assert_allclose(found.scores[0], log_probabilities / (2005 / 6) ** length_penalty, rtol=1e-3)


def test_no_translation_is_shorter_than_the_least_or_longer_than_its_limit(translator):
    _, ids = make_sentences(LENGTHS)
    found = translator.translate(ids, LENGTHS, [1, 12, 7, 40], minimum_length=7)
    assert found.lengths[0] == 1  # a limit binds more than a least length
    assert (found.lengths[1:] >= 7).all()
    assert (found.lengths[:, 0] <= [1, 12, 7, 40]).all()
    assert all(ids[-1] == END for ids in listed(found))


def test_states_that_are_not_finite_give_no_translation_and_leave_the_others_alone(any_translator):
    translator = any_translator
    _, ids = make_sentences(LENGTHS)
    memory = translator.encode(ids, LENGTHS)
    clean = translator.decode(memory, LENGTHS, limits(LENGTHS))
    memory[1, 3, 7] = np.nan
    found = translator.decode(memory, LENGTHS, limits(LENGTHS))
    assert found.lengths[1, 0] == 0
    assert np.isnan(found.scores[1, 0])
    others = [0, 2, 3]
    assert [listed(found)[row] for row in others] == [listed(clean)[row] for row in others]


def test_a_keras_model_translates_as_its_stock_search_does():
    from optops.models.keras import keras, tf
    from optops.models.transformer.config import DecoderLayerSize, LayerSize, TransformerConfig
    from optops.models.transformer.model import Transformer

    keras.utils.set_random_seed(0)
    sizes = (LayerSize(4, 96), LayerSize(2, 48)), (DecoderLayerSize(3, 1, 16), DecoderLayerSize(1, 2, 32))
    model = Transformer(TransformerConfig(50, 48, 12, *sizes, dropout=0.0, output_vocabulary=40))
    ids = np.random.default_rng(0).integers(4, 50, (3, 9)).astype(np.int32)
    found = PackedTranslator.from_keras(model).translate(ids, [9] * 3, [12] * 3, beam=1)
    for row, translation in enumerate(listed(found)):
        target = tf.constant([[1, *translation[:-1]]])
        logits = model({"source": tf.constant(ids[row : row + 1]), "target": target}).numpy()[0]
        logits[:, :2] = -np.inf
        assert logits[:11].argmax(-1).tolist()[: len(translation)] == translation[:11]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_a_translator_kept_as_bytes_translates_the_same_to_the_last_bit(model, precision):
    translator = PackedTranslator(**model.arguments(), precision=precision)
    _, ids = make_sentences(LENGTHS)
    block = translator.to_bytes()
    again = PackedTranslator.from_bytes(block)
    np.testing.assert_array_equal(again.to_bytes(), block)
    ours, theirs = (one.translate(ids, LENGTHS, limits(LENGTHS)) for one in (translator, again))
    np.testing.assert_array_equal(ours.ids, theirs.ids)
    np.testing.assert_array_equal(ours.scores, theirs.scores)


def test_bytes_that_do_not_start_on_a_cache_line_are_opened_too(translator):
    block = translator.to_bytes()
    shifted = np.empty(block.size + 64, np.uint8)
    offset = (1 - shifted.ctypes.data) % 64
    shifted[offset : offset + block.size] = block
    opened = PackedTranslator.from_bytes(shifted[offset : offset + block.size])
    np.testing.assert_array_equal(opened.to_bytes(), block)


@settings(max_examples=200)
@given(data=st.data())
def test_damaged_bytes_are_refused(translator, data):
    block = translator.to_bytes()
    # A header has 24 bytes that nobody reads.
    place = data.draw(st.integers(0, 39) | st.integers(64, block.size - 1))
    block[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises((ValueError, KernelError)):
        PackedTranslator.from_bytes(block)


@given(size=st.integers(0, 2000))
def test_bytes_that_were_cut_are_refused(translator, size):
    with pytest.raises(ValueError, match="blob"):
        PackedTranslator.from_bytes(translator.to_bytes()[:size])


def test_bytes_of_something_else_or_of_the_future_are_refused_with_a_reason(translator):
    block = translator.to_bytes()
    with pytest.raises(ValueError, match="it is of kind 3, and kind 2 is wanted"):
        PackedEncoder.from_bytes(block)
    with pytest.raises(ValueError, match="no weights of this library"):
        PackedProduct.from_bytes(b"x" * 500)
    block[8] = 2
    with pytest.raises(KernelError, match="its format is 2, this library reads up to 1; update optops"):
        PackedTranslator.from_bytes(block)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beam": 0}, "beam is 0; it may be 1 to 255"),
        ({"beam": 256}, "beam is 256"),
        ({"beam": 2, "results": 3}, "results is 3; it may be 1 to the beam, 2"),
        ({"length_penalty": float("nan")}, "length_penalty is nan; it may be -5 to 5"),
        ({"length_penalty": -5.5}, "length_penalty is -5.5; it may be -5 to 5"),
        ({"limits": [5, 5, 5, 65]}, "the limit of sentence 3 is 65; it may be 1 to .* positions, 64"),
        ({"limits": [5, 0, 5, 5]}, "the limit of sentence 1 is 0"),
        ({"limits": [5, 5]}, r"limits have shape \(2,\); there are 4 sentences"),
        ({"limits": [5, 5, 2**31 - 1, 5]}, "the limit of sentence 2 is 2147483647"),
        ({"limits": [5, 5, 2**32 + 5, 5]}, "limits hold 4294967301; they must be integers of 32 bits"),
        ({"limits": [5.5] * 4}, "limits are float64; they must be integers of 32 bits"),
        ({"results": 10**9}, "results is 1000000000; it may be 1 to the beam, 4"),
        ({"results": 1 - 2**32}, "results is -4294967295; it must be an integer of 32 bits"),
        ({"results": 2**32 + 1}, "results is 4294967297; it must be an integer of 32 bits"),
        ({"beam": 2**32 + 4}, "beam is 4294967300; it must be an integer of 32 bits"),
        ({"minimum_length": 2**32}, "minimum_length is 4294967296; it must be an integer of 32 bits"),
        ({"threads": 2**32 + 1}, "threads is 4294967297; it must be an integer of 32 bits"),
        ({"lengths": [5, 17, 0, 33]}, "lengths are 0 to 33"),
        ({"ids": np.full((4, 33), 170, np.int32)}, "token 0 is 170; ids may be 0 to 169"),
        ({"ids": np.full((4, 33), -1, np.int32)}, "token 0 is -1"),
        ({"ids": np.full((4, 33), 2**32 + 7)}, "ids hold 4294967303; they must be integers of 32 bits"),
        ({"ids": np.full((4, 33), 3.9)}, "ids are float64; they must be integers of 32 bits"),
        ({"ids": np.ones(4, np.int32)}, r"ids have shape \(4,\)"),
        ({"threads": -1}, "threads is -1"),
    ],
)
def test_calls_that_make_no_sense_are_refused_by_name(translator, change, message):
    call = {"ids": make_sentences(LENGTHS)[1], "lengths": LENGTHS, "limits": [9] * 4} | change
    with pytest.raises(ValueError, match=message):
        translator.translate(**call)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"end": 150}, "begin is 1 and end 150; they must be below the outputs, 150"),
        ({"target_embedding": np.ones((149, 40), np.float32)}, "target_embedding has 149 rows; there are 150 outputs"),
        ({"positions": np.ones((9, 41), np.float32)}, r"positions has shape \(9, 41\)"),
        ({"source_embedding": np.full((9, 40), np.nan, np.float32)}, "the source embedding holds nan"),
        ({"decoder": []}, "at least one layer"),
        ({"head_size": 13}, "query_key_value has an array of shape"),
        ({"epsilon": 0.0}, "epsilon is 0"),
        ({"padding": 2**32}, "padding is 4294967296; it must be an integer of 32 bits"),
        ({"begin": 2**32 + 1}, "begin is 4294967297; it must be an integer of 32 bits"),
        ({"end": 2 - 2**32}, "end is -4294967294; it must be an integer of 32 bits"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(model, change, message):
    with pytest.raises(ValueError, match=message):
        PackedTranslator(**model.arguments() | change)


def test_no_sentences_are_no_error(translator):
    found = translator.translate(np.ones((0, 4), np.int32), [], [])
    assert found.scores.shape == (0, 1)
