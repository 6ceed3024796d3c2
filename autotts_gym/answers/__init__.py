r"""Answers: extraction from text, normal forms, equality, and the classes of a question.

Collection, gold answers, voting, live episodes, benchmarks and ``autotts grade`` all use
:func:`~autotts_gym.answers.answer_pairs.answers_equal` and
:func:`~autotts_gym.answers.extraction.extract_answer`. ``docs/answers.md`` states the rules.
"""
