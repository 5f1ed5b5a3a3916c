namespace MLNetLora.Training;

/// <summary>In which numbers the products with the frozen weights are computed while an adapter is trained. Everything else, the adapter and its gradients included, is float32.</summary>
public enum TrainingPrecision
{
    /// <summary>32-bit floats, whatever the checkpoint's own type is. The default.</summary>
    Float32,

    /// <summary>
    /// 8-bit integers in the linear layers of the blocks, forward and backward: faster and close, but not the same (torchao: int8 mixed-precision training; Wortsman et al. 2023,
    /// arXiv:2304.13013). Two rounded copies of those weights are held, two bytes per weight in all. Losses on validation rows are still computed in float32.
    /// </summary>
    Int8,
}
