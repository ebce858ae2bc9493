from mgem_agent.recipes.nano.world.replay_questions import replay_question


def test_questions_vary_and_depend_only_on_index_and_seed():
    questions = [replay_question(index) for index in range(200)]
    assert questions == [replay_question(index) for index in range(200)]
    assert len(set(questions)) > 120
    assert not any("{" in question for question in questions)
    assert replay_question(3, seed=1) != replay_question(3)
