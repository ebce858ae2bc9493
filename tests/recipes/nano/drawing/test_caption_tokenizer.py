"""The captions' tokenizer is CLIP's kind, with pieces of our own."""

from transformers import AutoTokenizer, CLIPTokenizer

from mgem_agent.recipes.nano.drawing.caption_tokenizer import train_caption_tokenizer


def test_names_are_few_pieces_and_any_text_is_taken(tmp_path, drawn_assets):
    tokenizer = train_caption_tokenizer(tmp_path, 1_500, 24, drawn_assets, num_captions=300)
    assert isinstance(tokenizer, CLIPTokenizer)
    assert len(tokenizer) <= 1_500
    names = [concept.name for concept in drawn_assets.concepts]
    pieces = sum(len(ids) - 2 for ids in tokenizer(names).input_ids)
    assert pieces <= 1.8 * sum(len(name.split()) for name in names)
    assert tokenizer.decode(tokenizer("a fox in the snow").input_ids, skip_special_tokens=True) == "a fox in the snow"
    assert len(tokenizer("ein Füchslein 🦊 im Schnee").input_ids) > 6


def test_captions_are_padded_and_cut_to_their_longest(tmp_path, drawn_assets):
    tokenizer = train_caption_tokenizer(tmp_path, 400, 12, drawn_assets, num_captions=20)
    words = tokenizer(["a fox", "fox " * 50], padding="max_length", truncation=True)
    assert [len(ids) for ids in words.input_ids] == [12, 12]
    assert words.input_ids[0][-1] == tokenizer.eos_token_id == words.input_ids[1][-1]


def test_the_same_folder_gives_the_same_tokenizer(tmp_path, drawn_assets):
    first = train_caption_tokenizer(tmp_path, 400, 12, drawn_assets, num_captions=20)
    again = train_caption_tokenizer(tmp_path, 900, 30, drawn_assets, num_captions=20)
    assert first.get_vocab() == again.get_vocab()
    assert AutoTokenizer.from_pretrained(str(tmp_path)).get_vocab() == first.get_vocab()
