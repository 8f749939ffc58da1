"""What one worker does for one task of a stage; each the twin of a stage, without Beam."""
