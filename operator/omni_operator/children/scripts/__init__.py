"""Programs that run inside the engine's containers; standard library only, any Python from 3.9 on."""
