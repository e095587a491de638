"""Statistics and figures from run folders. Nothing here touches training, and training's numbers never change here."""
