using Microsoft.ML;
using MLNetLora.Runtime;

namespace MLNetLora.TextGeneration;

/// <summary>The device of a trainer: that of its options, or else the one that its MLContext names, as ML.NET's own trainers have it.</summary>
/// <param name="Device">The device.</param>
/// <param name="MayFallBack">Whether the processor takes over where the device cannot be used: only where the MLContext chose it and allows it.</param>
internal sealed record DeviceChoice(Device Device, bool MayFallBack)
{
    /// <summary>Chooses.</summary>
    /// <param name="context">Its GpuDeviceId and FallbackToCpu count where the options name no device.</param>
    /// <param name="asked">The device of the options; null for none.</param>
    public static DeviceChoice Of(MLContext context, Device? asked) => (asked, context.GpuDeviceId) switch
    {
        ({ } device, _) => new DeviceChoice(device, MayFallBack: false),
        (null, int id) => new DeviceChoice(new CudaDevice { DeviceId = id }, context.FallbackToCpu),
        _ => new DeviceChoice(Device.Cpu, MayFallBack: false),
    };

    /// <summary>The device, or the processor in its place.</summary>
    /// <param name="check">Throws where what is asked for has no kernels on it.</param>
    /// <param name="warn">Told why the processor takes over.</param>
    /// <exception cref="DeviceException">It cannot be used, and nothing may take over.</exception>
    /// <exception cref="OptionException">It has no kernels, and nothing may take over.</exception>
    public Device Usable(Action<Device> check, Action<string> warn)
    {
        try
        {
            switch (Device)
            {
                case CudaDevice cuda:
                    CudaProvider.Require(cuda);
                    break;
                case CustomDevice custom:
                    CustomProvider.Require(custom);
                    break;
                default:
                    return Device;
            }

            check(Device);
            return Device;
        }
        catch (MLNetLoraException e) when (MayFallBack && e is (DeviceException or OptionException))
        {
            warn($"The processor computes (MLContext.FallbackToCpu): {e.Message}");
            return Device.Cpu;
        }
    }
}
