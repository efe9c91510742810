"""Emotion vectors: what stories about an emotion have in common in the residual stream."""

from interp.emotions.vectors import FROM_TOKEN, contrast, emotion_vectors, story_rule

__all__ = ["FROM_TOKEN", "contrast", "emotion_vectors", "story_rule"]
